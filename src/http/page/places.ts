import type { Overview } from '../../overview/overview.ts';
import type { PlaceSize } from '../../overview/place-size.ts';
import { formatAge, formatAgo, formatBytes, oneLine } from '../../report/format.ts';
import { type Html, html, prose } from './text.ts';

/** Renders where the backups are: the destination and the copies, with what they hold and how they grow. */
export function placesSection({ destination, copies, found, places }: Overview, now: Date): Html {
  const state = found.problem
    ? html`<span class="pill bad">cannot be read</span>`
    : html`<span class="pill ok">readable</span>`;
  const sizes = new Map(places.map((place) => [place.name, place]));
  const isPriced = places.some(({ cost }) => cost !== undefined);
  const row = (name: string, what: string, shown: Html) => {
    const size = sizes.get(name);
    const cost = isPriced
      ? html`<td class="r num w0">${size?.cost === undefined ? '' : `${size.cost.toFixed(2)}`}</td>`
      : '';
    return html`<tr><td>${oneLine(name)}<div class="soft small">${what} ${shown}</div></td><td class="r num w0">${size?.now ? formatBytes(size.now.bytes) : '?'}<div class="soft small">${size ? growth(size) : ''}</div></td>${cost}</tr>`;
  };
  const rows = copies.map((copy) => row(copy.name, 'copy', copyState(copy, now)));
  const priced = isPriced ? html`<th scope="col" class="r">a month</th>` : '';
  return html`<section class="card" aria-label="Where the backups are"><h2>Where the backups are</h2><table><thead><tr><th scope="col">place</th><th scope="col" class="r">holds</th>${priced}</tr></thead><tbody>${row(destination, 'destination', state)}${rows}</tbody></table>${bySource(places)}</section>`;
}

function copyState({ complete, behindSince, error, made }: Overview['copies'][number], now: Date): Html {
  const ago = complete === undefined ? 'never complete' : `complete ${formatAgo(new Date(complete), now)}`;
  const why =
    error === undefined
      ? ''
      : html`<div class="note bad"><p>${prose(`${error.message} (${error.code})`)}</p>${error.hint === undefined ? '' : html`<p>${prose(error.hint)}</p>`}</div>`;
  if (behindSince !== undefined) {
    const behind = `behind for ${formatAge(now.getTime() - Date.parse(behindSince))}`;
    return html`<span class="pill bad">${behind}</span> <span class="soft small">${ago}</span>${why}`;
  }
  if (complete === undefined && made === undefined) return html`<span class="pill warn">not made yet</span>${why}`;
  return html`<span class="pill ${complete === undefined ? 'warn' : 'ok'}">${ago}</span>${why}`;
}

/** `1.7 GiB more in 31 days`. */
function growth({ now, before }: PlaceSize): string {
  if (!now || !before) return '';
  return `${change(now.bytes - before.bytes)} in ${formatAge(Date.parse(now.at) - Date.parse(before.at))}`;
}

function change(bytes: number): string {
  if (bytes === 0) return 'no change';
  return bytes > 0 ? `+${formatBytes(bytes)}` : `−${formatBytes(-bytes)}`;
}

/** The space that each source takes at each place. */
function bySource(places: readonly PlaceSize[]): Html | '' {
  const measured = places.filter(({ now }) => now !== undefined);
  const names = [...new Set(measured.flatMap(({ now }) => Object.keys(now?.sources ?? {})))].sort();
  if (names.length === 0) return '';
  const head = measured.map(({ name }) => html`<th scope="col" class="r path">${oneLine(name)}</th>`);
  const rows = names.map((name) => {
    const cells = measured.map(({ now, before }) => {
      const bytes = now?.sources[name];
      const old = before?.sources[name];
      const grown =
        bytes === undefined || old === undefined ? '' : html`<div class="soft small">${change(bytes - old)}</div>`;
      return html`<td class="r num">${bytes === undefined ? '' : formatBytes(bytes)}${grown}</td>`;
    });
    return html`<tr><th scope="row">${oneLine(name)}</th>${cells}</tr>`;
  });
  return html`<details><summary class="small">By source</summary><div class="scroll" tabindex="0" role="region" aria-label="Size by source"><table><thead><tr><th scope="col">source</th>${head}</tr></thead><tbody>${rows}</tbody></table></div></details>`;
}
