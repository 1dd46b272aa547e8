"""The look of the report: its style sheet, the pieces that all its sections share, and what its words mean."""

from __future__ import annotations

from html import escape

TERMS = {
    "latent": "a short list of numbers into which the encoder turns a picture; the model thinks only in these",
    "JEPA": "joint-embedding predictive architecture: learns to predict the latent of what comes next, not its pixels",
    "roll-out": "several predictions in a row, each made from the one before, without looking at the world again",
    "planner": "tries many action sequences in imagination and takes the one whose last latent is nearest the goal's",
    "unsolved pair": "a start and a goal picture recorded a fixed number of steps apart, where the start does not "
    "already count as reaching the goal",
    "95 % interval": "a Wilson interval: were the trial repeated many times, 95 of 100 such intervals would hold the "
    "true rate",
    "probe": "a simple reader trained afterwards, only to find out what the latents contain; it never trains the model",
    "R²": "share of a quantity's variance that is explained: 1 is perfect, 0 is no better than its mean",
    "RankMe": "effective number of dimensions in use; near 1 means that all pictures collapse to one latent",
    "flow": "where each pixel of a picture has gone in the next one; its error (EPE) is the distance from there",
    "J&F": "how well masks carried through a video fit: overlap of regions (J) and of contours (F), 1 is perfect",
    "held-out": "from episodes that no part of training ever saw, set apart for good",
    "block center": "where the T-shaped block is",
    "block angle": "which way the block is turned",
    "agent xy": "where the round pusher is",
}

STYLE = """
:root{--paper:#f6f7f9;--card:#fff;--ink:#1d2129;--soft:#5b6372;--line:#e1e5eb;--main:#0072b2;--tint:#e8f2f9}
@media(prefers-color-scheme:dark){:root{--paper:#14171c;--card:#1c2027;--ink:#e4e7ed;--soft:#9aa3b2;--line:#303641;
--main:#56b4e9;--tint:#1d2b36}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:2rem;margin:.1em 0 .3em;line-height:1.15;overflow-wrap:anywhere}
h2{font-size:1.35rem;margin:0 0 .3em} h3{font-size:1.02rem;margin:1.6em 0 .5em}
p{margin:.3em 0 .8em;max-width:75ch}
.lead,.about{color:var(--soft)} .about{margin-bottom:1.1em}
.eyebrow{color:var(--soft);font-size:.85rem;margin:0}
section,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:18px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:18px}
.cards .card{margin:0}
.hero p{margin-bottom:.2em} .big{font-size:2.9rem;font-weight:700;line-height:1.15;color:var(--main)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:20px}
.grid.wider{grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))}
figure{margin:0} figcaption,.note,small{color:var(--soft);font-size:.84rem} figcaption{margin-top:4px}
.note{margin:.4em 0 0}
img,video{max-width:100%;height:auto;display:block} .grid figure img{width:100%}
.films{display:grid;gap:18px} video{margin:0 auto;border-radius:8px;background:#181a1f;max-height:82vh}
.films figcaption{text-align:center}
.rollout{display:grid;grid-template-columns:5.4em 1fr;gap:3px 8px;align-items:center;font-size:.8rem;color:var(--soft)}
.rollout .strip{width:100%;border-radius:3px} .rollout .note{grid-column:2;margin:0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%} th,td{padding:9px 12px;text-align:left;border-top:1px solid var(--line);
vertical-align:top} thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.88rem} tbody th{font-weight:500}
td{min-width:112px;font-variant-numeric:tabular-nums} td small{display:block;line-height:1.35}
.ours{background:var(--tint)} .ours th{font-weight:700}
abbr{text-decoration:underline dotted var(--soft);text-underline-offset:3px;cursor:help}
.bar{position:relative;display:block;height:7px;margin:4px 0;border-radius:4px;background:var(--line)}
.bar i{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--main);opacity:.38}
.bar u{position:absolute;top:-2px;width:3px;height:11px;margin-left:-1.5px;border-radius:2px;background:var(--main)}
.facts th{width:12em;color:var(--soft);font-weight:500} .facts td{overflow-wrap:anywhere;min-width:0}
dl{display:grid;grid-template-columns:minmax(7em,max-content) 1fr;gap:5px 16px;font-size:.9rem;margin:.8em 0 0}
dt{font-weight:600} dd{margin:0;color:var(--soft)}
details{margin-top:12px;font-size:.9rem} summary{cursor:pointer;color:var(--soft)}
pre{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:12px;font-size:.8rem;
line-height:1.45}
@media(max-width:560px){main{padding:20px 12px 40px} section,.card{padding:16px 14px} h1{font-size:1.6rem}
.big{font-size:2.3rem} th,td{padding:8px 7px} td{min-width:96px} dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:8px} .rollout{grid-template-columns:1fr} .rollout .note{grid-column:1} .facts th{width:7.5em}}
"""


def section(title: str, about: str, body: str) -> str:
    """A titled part of the page; ``about`` says in a sentence or two what is seen, ``body`` is HTML."""
    about = f'<p class="about">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{about}{body}</section>"


def figure(content: str, caption: str = "") -> str:
    """HTML ``content`` with an optional caption below."""
    caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{content}{caption}</figure>"


def definitions(meanings: dict[str, str]) -> str:
    """Words and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in meanings.items()) + "</dl>"


def folded(summary: str, body: str) -> str:
    """HTML ``body`` behind a line to click."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
