import { raw } from 'hono/html';
import { oneLine } from '../../report/format.ts';
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';
import { type Html, html } from './text.ts';

/** A rescue ring, as a picture inside the page. */
const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Ccircle cx='16' cy='16' r='11' fill='none' stroke='%23d9482b' stroke-width='7'/%3E%3Cpath d='M16 1v9M16 22v9M1 16h9M22 16h9' stroke='%23fff' stroke-width='4'/%3E%3C/svg%3E";

/** Seconds after which a page without JavaScript loads itself again while a run is in progress. */
const RELOAD_S = 5;

/** The pages of the navigation, with their addresses. */
const PAGES = [
  ['Overview', '/'],
  ['Snapshots', '/snapshots'],
  ['Drills', '/drills'],
  ['Retention', '/retention'],
] as const;

export interface PageParts {
  project: string;
  version: string;
  /** title of the page, before the name of the project */
  title: string;
  /** address of the page in the navigation */
  current?: string;
  body: Html;
  /** a run is in progress: the page shows its progress */
  live?: boolean;
}

/** Renders a whole page. It needs no other request. */
export function renderPage({ project, version, title, current, body, live = false }: PageParts): Html {
  const links = PAGES.map(([name, address]) =>
    address === current
      ? html`<a href="${address}" aria-current="page">${name}</a>`
      : html`<a href="${address}">${name}</a>`,
  );
  const reload = live ? html`<noscript><meta http-equiv="refresh" content="${RELOAD_S}" /></noscript>` : '';
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="robots" content="noindex" />
<title>${title} · ${oneLine(project)} · Lifeboat</title>
<link rel="icon" href="${raw(ICON)}" />
<style>${raw(STYLE)}</style>
${reload}
</head>
<body>
<div class="page">
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<span class="soft">Lifeboat · project <span class="ink">${oneLine(project)}</span></span>
<nav aria-label="Pages">${links}<a href="/metrics">Metrics</a></nav>
</header>
<main id="main" tabindex="-1">
${body}
</main>
<footer>Lifeboat ${version}. This page only reads: it changes nothing.</footer>
</div>
${live ? html`<script>${raw(SCRIPT)}</script>` : ''}
</body>
</html>`;
}
