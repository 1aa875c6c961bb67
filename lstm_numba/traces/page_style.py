"""The style sheet of an inspection's page, for light and dark screens and for paper."""

from __future__ import annotations

STYLE = """\
:root { color-scheme: light dark; --ground: #ffffff; --text: #1b1b1b; --quiet: #555555; --line: #767676;
  --panel: #f3f4f6; --accent: #005a9c; --mark: #fff1c2; }
@media (prefers-color-scheme: dark) { :root { --ground: #161616; --text: #e6e6e6; --quiet: #b4b4b4;
  --line: #8c8c8c; --panel: #232323; --accent: #8ec7f5; --mark: #4a3a00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 0 1rem 3rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.2rem 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.4rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1.05rem; margin: 1.2rem 0 0.3rem; }
p, li, dd, summary { overflow-wrap: anywhere; }
td, th { overflow-wrap: break-word; max-width: 20rem; }
p { max-width: 46rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 0.5rem; background: var(--ground); padding: 0.5rem; z-index: 1; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; list-style: none; padding: 0; margin: 0.5rem 0; }
dl.facts { display: grid; grid-template-columns: fit-content(35%) 1fr; gap: 0.2rem 1rem; margin: 0.6rem 0; }
dl.facts dt { color: var(--quiet); }
dl.facts dd { margin: 0; }
.controls { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; background: var(--panel);
  padding: 0.6rem 0.8rem; border-radius: 0.4rem; margin: 0.6rem 0; }
.controls label { display: inline-flex; gap: 0.4rem; align-items: center; }
.controls input[type=range] { width: min(30rem, 60vw); }
button, select, input { font: inherit; color: inherit; background: var(--ground);
  border: 1px solid var(--line); border-radius: 0.3rem; padding: 0.25rem 0.6rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.tokens { display: flex; flex-wrap: wrap; gap: 0.2rem 0.35rem; list-style: none; padding: 0;
  margin: 0.6rem 0; }
.tokens li { padding: 0 0.2rem; border: 2px solid transparent; border-radius: 0.25rem; }
.tokens li[aria-current] { border-color: var(--text); background: var(--mark); font-weight: 700; }
.maps figure { margin: 0.5rem 0; }
.maps figcaption { display: flex; justify-content: space-between; gap: 1rem; }
.quiet { color: var(--quiet); }
canvas { display: block; width: 100%; height: 7rem; border: 1px solid var(--line); }
canvas.low { height: 4rem; }
canvas.scale { width: 10rem; height: 0.9rem; display: inline-block; vertical-align: middle; }
.axis { display: grid; list-style: none; padding: 0; margin: 0; font-size: 0.8rem; }
.axis li { writing-mode: vertical-rl; justify-self: center; max-height: 7rem; overflow: hidden;
  line-height: 1.1; }
img { max-width: min(100%, 56rem); max-height: 30rem; height: auto; }
.scroll { overflow: auto; max-height: 28rem; border: 1px solid var(--line); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.3rem 0.5rem; font-weight: 600; }
th, td { padding: 0.15rem 0.6rem; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number { text-align: right; }
thead th { position: sticky; top: 0; background: var(--panel); }
meter { width: min(10rem, 22vw); }
summary { cursor: pointer; padding: 0.2rem 0; }
@media print { nav, .controls, .skip { display: none; } }
"""
