"""What a trace of a layer tells: shares of open and closed gates, memories, and pages to look at them."""
