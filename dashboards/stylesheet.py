"""The look: colour tokens for light and dark as CSS variables, and the styles of everything drawn as HTML.

A colour is a variable everywhere (also inside chart specs), so a theme switch repaints without a rerun.
"""

from __future__ import annotations

from typing import Final

TOKENS: Final[dict[str, tuple[str, str]]] = {
    "page": ("#FFFFFF", "#0F131A"),
    "card": ("#FFFFFF", "#141922"),
    "well": ("#F5F7FA", "#171C25"),
    "ink": ("#151A23", "#E7EBF1"),
    "ink2": ("#566070", "#A3ADBB"),
    "ink3": ("#66707F", "#8B96A6"),
    "line": ("#DFE4EB", "#2B3340"),
    "grid": ("#EBEEF3", "#222936"),
    "cur": ("#1F5FD6", "#6EA8FF"),
    "ref": ("#7A8494", "#8B96A6"),
    "more": ("#D9480F", "#FF9A5C"),
    "moretext": ("#B93A06", "#FF9A5C"),
    "ok": ("#00735F", "#3FD6B0"),
    "okbg": ("#E4F4EF", "#12302B"),
    "warn": ("#8F5600", "#F5C04E"),
    "warnbg": ("#FDF1D8", "#35290F"),
    "bad": ("#C2253B", "#FF7D88"),
    "badink": ("#FFFFFF", "#2A0A0E"),
    "mix": ("#6236C8", "#AE93FF"),
    "mixbg": ("#EFE9FB", "#2A2147"),
    "fault": ("#151A23", "#E7EBF1"),
    "faultink": ("#FFFFFF", "#0F131A"),
    "none": ("#566070", "#A3ADBB"),
    "nonebg": ("#EEF1F5", "#222936"),
}
"""Role -> (light, dark); contrasts are in the design's colour table."""

FONTS: Final = tuple(
    {"family": "Inter", "url": f"app/static/inter-latin-{weight}-normal.woff2", "weight": weight}
    for weight in (400, 500, 600)
)


def variables() -> str:
    """Write the tokens as CSS custom properties that follow the app's colour scheme."""
    return ":root{" + "".join(f"--fp-{name}:light-dark({a},{b});" for name, (a, b) in TOKENS.items()) + "}"


SHELL: Final = """
.stApp{font-family:Inter,system-ui,sans-serif;font-feature-settings:'tnum';background:var(--fp-page)}
.stMainBlockContainer{max-width:1880px;padding:3.1rem 24px 32px}
.stAppHeader{background:var(--fp-page);height:44px;min-height:44px}
[data-testid=stElementToolbar],[data-testid=stDecoration]{display:none}
[data-testid=stStatusWidget]{opacity:.55}
.stVerticalBlock{gap:14px}
.stHorizontalBlock{gap:14px}
.stElementContainer:has(>.stHtml style){display:none}
[class*="st-key-card-"]{background:var(--fp-card);border-color:var(--fp-line)!important;border-radius:10px;
 padding:13px 14px 12px;gap:8px}
.st-key-filters{gap:14px;align-items:center}
.st-key-filters [data-baseweb=select]>div{min-height:36px}
.st-key-filters .stElementContainer:has(.fp-asof){margin-left:auto}
.stVegaLiteChart{overflow:hidden}
.stVegaLiteChart summary,.stVegaLiteChart .vega-actions{display:none}
.st-key-hidden-refresh{display:none}
"""

BLOCKS: Final = """
.fp-asof{display:flex;gap:14px;justify-content:flex-end;font-size:12px;color:var(--fp-ink2);white-space:nowrap}
.fp-asof b{color:var(--fp-ink);font-weight:600}
.fp-asof .fp-warn{color:var(--fp-warn);background:none}.fp-asof .fp-bad{color:var(--fp-bad);background:none}
.fp-asof .fp-warn b,.fp-asof .fp-bad b{color:inherit}
.fp-verdict{border-left:4px solid var(--fp-line);padding:1px 0 2px 14px;margin:4px 0 0}
.fp-verdict h1{font-size:22px!important;line-height:1.28;font-weight:600;letter-spacing:-.018em;margin:0;padding:0;
 color:var(--fp-ink);text-wrap:pretty}
.fp-verdict p{font-size:13px;line-height:1.45;margin:4px 0 0;color:var(--fp-ink2)}
.fp-verdict.fp-bad{border-color:var(--fp-bad);background:none}.fp-verdict.fp-warn{border-color:var(--fp-warn);
 background:none}
.fp-verdict.fp-ok{border-color:var(--fp-ok);background:none}
.fp-head h2{font-size:14px!important;line-height:1.35;font-weight:600;letter-spacing:-.006em;margin:0;padding:0;
 color:var(--fp-ink);text-wrap:pretty}
.fp-head p{font-size:12px;line-height:1.4;margin:2px 0 0;color:var(--fp-ink2)}
.fp-chip{display:inline-flex;align-items:center;gap:5px;padding:2px 9px;border-radius:999px;font-size:11.5px;
 font-weight:500;line-height:1.35;white-space:nowrap;color:var(--fp-none);background:var(--fp-nonebg)}
.fp-chip i{font-style:normal;font-size:9px}
.fp-chip.fp-bad{background:var(--fp-bad);color:var(--fp-badink)}
.fp-chip.fp-warn{background:var(--fp-warnbg);color:var(--fp-warn)}
.fp-chip.fp-ok{background:var(--fp-okbg);color:var(--fp-ok)}
.fp-chip.fp-mix{background:var(--fp-mixbg);color:var(--fp-mix)}
.fp-chip.fp-fault{background:var(--fp-fault);color:var(--fp-faultink)}
.fp-tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(186px,1fr));gap:10px}
@media(min-width:1500px){.fp-tiles{grid-template-columns:repeat(6,1fr)}}
.fp-tiles.fp-wide{grid-template-columns:repeat(auto-fit,minmax(250px,1fr))}
a.fp-tile,.fp-tile{display:block;position:relative;border:1px solid var(--fp-line);border-radius:8px;
 padding:9px 10px 9px 12px;
 background:var(--fp-card);color:var(--fp-ink);text-decoration:none!important;min-width:0}
a.fp-tile:hover{border-color:var(--fp-ink3)}
a.fp-tile:focus-visible{outline:2px solid var(--fp-cur);outline-offset:1px}
.fp-tile.fp-bad{border-color:var(--fp-bad);box-shadow:inset 3px 0 var(--fp-bad)}
.fp-tile.fp-warn{box-shadow:inset 3px 0 var(--fp-warn)}
.fp-tile .fp-top{display:flex;justify-content:space-between;align-items:center;gap:4px;height:20px}
.fp-tile .fp-name{font-size:11.5px;letter-spacing:-.018em;color:var(--fp-ink2);white-space:nowrap;overflow:hidden;
 text-overflow:ellipsis}
.fp-tile .fp-chip{padding:1px 6px;font-size:10.5px;gap:3px}
.fp-tile .fp-chip i{font-size:8px}
.fp-tile .fp-tick{color:var(--fp-ok);font-size:13px;font-weight:600}
.fp-tile .fp-mid{display:flex;justify-content:space-between;align-items:center;gap:8px;height:31px}
.fp-tile .fp-value{font-size:22px;font-weight:600;letter-spacing:-.02em;line-height:1.3;white-space:nowrap}
.fp-tile .fp-value small{font-size:12px;font-weight:400;letter-spacing:0;color:var(--fp-ink2);margin-left:2px}
.fp-tile .fp-foot{font-size:11px;line-height:1.45;color:var(--fp-ink2);white-space:nowrap;overflow:hidden;
 text-overflow:ellipsis}
.fp-spark{width:72px;height:26px;flex:none;background:var(--fp-ref);-webkit-mask-size:100% 100%;mask-size:100% 100%}
.fp-bad .fp-spark{background:var(--fp-bad)}.fp-warn .fp-spark{background:var(--fp-warn)}
.fp-list{display:flex;flex-direction:column}
.fp-item{display:grid;grid-template-columns:max-content 1fr auto;gap:4px 12px;align-items:start;padding:9px 0;
 border-top:1px solid var(--fp-grid);font-size:13px;color:var(--fp-ink);line-height:1.4}
.fp-item:first-child{border-top:0;padding-top:2px}
.fp-item .fp-when{min-width:56px;color:var(--fp-ink2);font-size:12px;padding-top:1px;white-space:nowrap}
.fp-item b{font-weight:600}.fp-item div,.fp-item a{overflow-wrap:anywhere}
.fp-item .fp-sub{color:var(--fp-ink2);font-size:12px}
.fp-item a,.fp-quiet a,.fp-table a{color:var(--fp-cur);text-decoration:none}
.fp-item a:hover,.fp-table a:hover{text-decoration:underline}
.fp-quiet{color:var(--fp-ink2);font-size:13px;line-height:1.5;padding:6px 0 10px}
.fp-table{width:100%;border-collapse:separate;border-spacing:0;font-size:13px;color:var(--fp-ink);margin:0}
.fp-table th,.fp-table td{border:0!important;border-bottom:1px solid var(--fp-grid)!important;padding:7px 8px;
 text-align:left;
 vertical-align:middle;line-height:1.35}
.fp-table th{font-weight:500;font-size:12px;color:var(--fp-ink2);white-space:nowrap}
.fp-table .fp-num{text-align:right;white-space:nowrap}
.fp-table .fp-nowrap{white-space:nowrap}
.fp-table td small{color:var(--fp-ink2);font-size:12px}
.fp-table tr:last-child td{border-bottom:0!important}
.fp-table tr.fp-on td{background:color-mix(in srgb,var(--fp-cur) 8%,transparent)}
.fp-cells{border-spacing:3px}.fp-cells th,.fp-cells td{border:0!important;padding:5px 8px}
.fp-cells td{background:var(--fp-well);border-radius:5px;text-align:right;white-space:nowrap}
.fp-cells tbody th{color:var(--fp-ink);font-weight:500;text-align:left}
.fp-cells thead th{text-align:right;white-space:normal}.fp-cells thead th:first-child{text-align:left}
.fp-hatch{color:var(--fp-ink2);font-size:12px;
 background:repeating-linear-gradient(135deg,var(--fp-well) 0 5px,var(--fp-grid) 5px 9px)!important}
.fp-bars{display:grid;grid-template-columns:minmax(90px,max-content) 1fr max-content;gap:7px 10px;align-items:center;
 font-size:13px;color:var(--fp-ink);padding:4px 0}
.fp-bars .fp-bar{height:12px;border-radius:2px;background:var(--fp-ref)}
.fp-bars .fp-bar.fp-bad{background:var(--fp-bad)}.fp-bars .fp-bar.fp-more{background:var(--fp-more)}
.fp-bars span{color:var(--fp-ink2);font-size:12px;white-space:nowrap}
.fp-banner{margin-top:4px;border:1px solid var(--fp-bad);border-left-width:4px;border-radius:8px;
 padding:9px 14px;font-size:13px;color:var(--fp-ink);line-height:1.45}
.fp-banner.fp-warn{border-color:var(--fp-warn);background:none}
.fp-banner b{font-weight:600}
.fp-stale .fp-dim{opacity:.6}
.fp-state{max-width:860px;margin:26px auto 10px;border:1px solid var(--fp-line);border-radius:10px;padding:24px 28px;
 background:var(--fp-card);color:var(--fp-ink);font-size:14px;line-height:1.55}
.fp-state h1{font-size:20px!important;font-weight:600;letter-spacing:-.015em;margin:0 0 6px;padding:0;
 color:var(--fp-ink)}
.fp-state p{margin:0 0 12px;color:var(--fp-ink2)}
.fp-state ol{margin:0;padding:0;list-style:none;counter-reset:step}
.fp-state li{counter-increment:step;position:relative;padding:0 0 14px 34px;margin:0}
.fp-state li:before{content:counter(step);position:absolute;left:0;top:0;width:22px;height:22px;
 border-radius:50%;font-size:12px;
 background:var(--fp-nonebg);color:var(--fp-ink2);text-align:center;line-height:22px;font-weight:600}
.fp-state pre{background:var(--fp-well);border:1px solid var(--fp-grid);border-radius:6px;padding:10px 12px;
 margin:6px 0 0;
 font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;color:var(--fp-ink);overflow-x:auto;white-space:pre}
.fp-wait:before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;background:var(--fp-cur);
 margin-right:8px}
.fp-small{display:flex;flex-wrap:wrap;gap:4px 8px;align-items:center;justify-content:space-between;
 font-size:13px;color:var(--fp-ink)}
.fp-links{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;line-height:1.5}
.fp-links a{color:var(--fp-cur);text-decoration:none}.fp-links a:hover{text-decoration:underline}
.stMarkdown h1{font-size:22px!important;font-weight:600;letter-spacing:-.018em;padding:6px 0 2px}
.stMarkdown h2{font-size:15px!important;font-weight:600;padding:12px 0 2px}
.stMarkdown code{color:var(--fp-ink);background:var(--fp-well);font-size:12.5px}
.fp-facts{display:flex;flex-wrap:wrap;gap:6px 26px;font-size:13px;color:var(--fp-ink)}
.fp-facts span{color:var(--fp-ink2);font-size:12px;display:block}
"""


def css() -> str:
    """Return the whole style element of a page."""
    return f"<style>{variables()}{SHELL}{BLOCKS}</style>"


def theme() -> dict[str, object]:
    """Return Streamlit's theme options, from the same tokens, keyed as its configuration wants them."""
    options: dict[str, object] = {
        "theme.font": "Inter, system-ui, sans-serif",
        "theme.baseFontSize": 14,
        "theme.baseRadius": "8px",
        "theme.showWidgetBorder": True,
        "theme.fontFaces": [dict(face) for face in FONTS],
    }
    for index, scheme in enumerate(("light", "dark")):
        colours = {name: pair[index] for name, pair in TOKENS.items()}
        options |= {
            f"theme.{scheme}.primaryColor": colours["cur"],
            f"theme.{scheme}.backgroundColor": colours["page"],
            f"theme.{scheme}.secondaryBackgroundColor": colours["well"],
            f"theme.{scheme}.textColor": colours["ink"],
            f"theme.{scheme}.borderColor": colours["line"],
            f"theme.{scheme}.dataframeBorderColor": colours["grid"],
            f"theme.{scheme}.dataframeHeaderBackgroundColor": colours["well"],
        }
    return options
