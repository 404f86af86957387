/** The style of all pages. It stands in each page, so a page is one request. The security policy names its hash. */
export const STYLE = `
:root{color-scheme:light dark;--bg:#faf9f6;--card:#fff;--ink:#1c2226;--soft:#56616a;--line:#e3e0d9;--ok:#1a6e46;--ok-bg:#e3f2ea;--warn:#845400;--warn-bg:#fdf0d3;--bad:#a3201a;--bad-bg:#fce6e4;--none:#e8e5de;--accent:#185596;--bar:#2f7d57}
@media(prefers-color-scheme:dark){:root{--bg:#121619;--card:#1a1f23;--ink:#e7eaec;--soft:#9eabb4;--line:#2a3137;--ok:#6bcf9c;--ok-bg:#16332a;--warn:#f2bd55;--warn-bg:#372b12;--bad:#ff9188;--bad-bg:#3f2120;--none:#2a3137;--accent:#85b8f2;--bar:#4aa57a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.page{max-width:64rem;margin:0 auto;padding:1.1rem 1rem 4rem}
h1{font-size:1.55rem;line-height:1.25;margin:0 0 .2rem;letter-spacing:-.015em;font-weight:650}
h2{font-size:1.02rem;margin:0;font-weight:650;overflow-wrap:anywhere}
h3{font-size:.92rem;margin:1.1rem 0 .3rem;font-weight:650}
p{margin:.4rem 0}
a{color:var(--accent);text-underline-offset:2px}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
code{font:.86em ui-monospace,SFMono-Regular,Menlo,monospace;background:var(--none);padding:.1em .35em;border-radius:4px;overflow-wrap:anywhere}
.cmd{display:block;margin:.35rem 0 0;padding:.45rem .6rem;white-space:pre-wrap}
.soft{color:var(--soft)}.num{font-variant-numeric:tabular-nums}.small{font-size:.86rem}.ink{color:var(--ink);font-weight:600}
.skip{position:absolute;left:-99rem}.skip:focus{position:static;display:inline-block;margin:.4rem 0}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.top{display:flex;justify-content:space-between;gap:.3rem 1.2rem;flex-wrap:wrap;font-size:.9rem;padding-bottom:.9rem}
.top nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem}.top a[aria-current]{color:var(--ink);text-decoration:none;font-weight:600}
.verdict{border-left:5px solid var(--ok);padding:.15rem 0 .2rem 1rem;margin:.4rem 0 1.4rem}.verdict.warn{border-color:var(--warn)}.verdict.bad{border-color:var(--bad)}
.verdict p{color:var(--soft);max-width:56rem;text-wrap:pretty}h1{text-wrap:balance}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.15rem 1.1rem;margin:.85rem 0}
.head{display:flex;justify-content:space-between;gap:.3rem .8rem;align-items:baseline;flex-wrap:wrap}
.pill{font-size:.82rem;font-weight:600;padding:.12rem .65rem;border-radius:99px;display:inline-block}
.pill.ok{color:var(--ok);background:var(--ok-bg)}.pill.warn{color:var(--warn);background:var(--warn-bg)}.pill.bad{color:var(--bad);background:var(--bad-bg)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.7rem 1.5rem;margin:.75rem 0 0}
.two{grid-template-columns:1fr 1fr}
dt{font-size:.78rem;color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.label{font-size:.78rem;color:var(--soft)}
.strip{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;gap:3px;align-items:end;height:22px;margin-top:1rem}
.strip i{height:22px;border-radius:3px;background:var(--bar)}.strip .n{height:4px;background:var(--none)}
.strip .p{background:linear-gradient(to top,var(--warn) 60%,var(--warn-bg) 60%)}
.strip .f{background:repeating-linear-gradient(135deg,var(--bad) 0 4px,var(--bad-bg) 4px 7px)}
.scale span:first-child,.scale span:last-child{white-space:nowrap}.scale{display:flex;justify-content:space-between;gap:1rem;font-size:.78rem;color:var(--soft);margin-top:.25rem}
.window{display:block;width:100%;height:12px;margin-top:.9rem;border-radius:6px}.window .w{fill:var(--bar)}.window .h{fill:var(--none)}
.chart{display:block;width:100%;height:46px;margin-top:.15rem}.chart path{fill:none;stroke:var(--accent);stroke-width:1.7;vector-effect:non-scaling-stroke}.chart .a{fill:var(--accent);opacity:.13;stroke:none}
.note{border-radius:9px;padding:.6rem .85rem;margin-top:.85rem;font-size:.93rem;background:var(--warn-bg);overflow-wrap:anywhere}.note.bad{background:var(--bad-bg)}.note p{margin:.15rem 0}.note code{background:var(--card)}
.run{border:1px solid var(--accent)}.run progress{width:100%;height:8px;accent-color:var(--accent);display:block}
.run li{margin:.5rem 0}.run ul{list-style:none;padding:0;margin:.4rem 0 0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
td,th{padding:.38rem .8rem .38rem 0;border-top:1px solid var(--line);text-align:left;vertical-align:top;font-weight:400}
td{overflow-wrap:anywhere}thead th{color:var(--soft);font-size:.78rem;border:0}.r{text-align:right}tr>.r:last-child{padding-right:0}td.w0,a.w0,.small .pill{white-space:nowrap}.only{display:none}
.scroll{overflow-x:auto}
.path{overflow-wrap:anywhere}
footer{margin-top:2.2rem;font-size:.86rem;color:var(--soft)}
@media(max-width:40rem){.hide{display:none}.only{display:block}td,th{padding-right:.5rem}.grid{grid-template-columns:1fr 1fr;gap:.6rem .9rem}body{font-size:16px}.grid.two{grid-template-columns:1fr}.card{padding:.85rem .9rem 1rem}h1{font-size:1.35rem}.strip{gap:2px}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb}.top nav,.skip,footer{display:none}.card{break-inside:avoid;border-color:#bbb}a{color:inherit;text-decoration:none}.page{padding:0;max-width:none}.pill{border:1px solid currentColor}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
`;
