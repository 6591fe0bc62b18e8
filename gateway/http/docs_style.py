"""How the page of the OpenAPI document looks, in light and in dark."""

STYLE = """
:root{color-scheme:light dark;--text:#1c2024;--soft:#59636e;--page:#fff;--pane:#f6f8fa;--line:#d0d7de;--link:#0757b0;
--get:#0a6640;--post:#0757b0;--need:#a1260d;--code:#eef1f4}
@media(prefers-color-scheme:dark){:root{--text:#e4e7eb;--soft:#9ba7b4;--page:#12161b;--pane:#191f26;--line:#343d47;
--link:#7db7ff;--get:#56d394;--post:#7db7ff;--need:#ff9d86;--code:#232b34}}
*{box-sizing:border-box}
html{scroll-padding-top:1rem}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;
display:grid;grid-template-columns:19rem minmax(0,1fr)}
a{color:var(--link)}a:hover{text-decoration-thickness:2px}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--page);padding:.5rem 1rem;z-index:1}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1.5rem 1rem;background:var(--pane);
border-right:1px solid var(--line);font-size:.875rem}
nav .title{font-weight:700;font-size:1rem;margin:0 0 .75rem}
nav ul{list-style:none;margin:0;padding:0}nav ul ul{padding-left:.75rem;border-left:1px solid var(--line)}
nav a{display:block;padding:.25rem .375rem;text-decoration:none;border-radius:4px}nav a:hover{background:var(--code)}
nav code{background:none;padding:0}
main{padding:2rem clamp(1rem,4vw,4rem) 6rem;max-width:72rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 1rem}.version{font-size:1rem;font-weight:400;color:var(--soft)}
h2{margin:3.5rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line);font-size:1.5rem}
h3{margin:2.5rem 0 .5rem;font-size:1.125rem}h4{margin:1.5rem 0 0}
p,ul{max-width:46rem}.summary{font-weight:600;margin-top:0}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8125rem}
code{background:var(--code);padding:.1em .3em;border-radius:4px}h3 code{background:none;font-size:1rem}
figure{margin:1rem 0}figcaption,caption{font-size:.875rem;font-weight:600;text-align:left;padding-bottom:.25rem}
pre{margin:0;padding:1rem;overflow:auto;background:var(--pane);border:1px solid var(--line);border-radius:6px;
max-height:32rem}
pre code{background:none;padding:0}
.table{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600}tbody th{font-weight:400}
td p,td ul{margin:0}td ul{padding-left:1.1rem}td li+li{margin-top:.25rem}
tbody th{min-width:10rem}td:nth-child(2){min-width:11rem}td:last-child{min-width:14rem;width:55%}
.method{font-size:.6875rem;font-weight:700;letter-spacing:.03em;border:1px solid;border-radius:4px;padding:.1em .4em}
.get{color:var(--get)}.post{color:var(--post)}
.required{color:var(--need);font-size:.75rem;white-space:nowrap}
@media(max-width:56rem){body{display:block}nav{position:static;height:auto;border-right:0;
border-bottom:1px solid var(--line)}nav ul ul{display:none}}
@media print{nav,.skip{display:none}body{display:block}}
"""
