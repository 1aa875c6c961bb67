"""Pictures, drawn with matplotlib (the extra "plot"), without pyplot, so that no global state is changed.

The only package that imports matplotlib at the top of its modules; import it where a picture is wanted.
"""
