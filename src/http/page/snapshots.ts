import type { Foreseen } from '../../overview/forecast.ts';
import { isFuture } from '../../plan/values/clock.ts';
import { formatAgo, formatBytes, formatWhen, oneLine, plural } from '../../report/format.ts';
import { statusWord, triggerText } from '../../report/status-word.ts';
import type { Manifest } from '../../store/objects/manifest.ts';
import { type Html, html, joinNames, time } from './text.ts';

/** The snapshots, and what retention does with them. */
export interface SnapshotsInput {
  /** newest first */
  manifests: readonly Manifest[];
  /** by snapshot id */
  foreseen: ReadonlyMap<string, Foreseen>;
  zone: string;
}

/** Renders a table of snapshots, newest first. `most`: the number of rows. */
export function snapshotTable({ manifests, foreseen }: SnapshotsInput, now: Date, most = manifests.length): Html {
  const rows = manifests.slice(0, most).map((manifest) => {
    const { id, status, end, sources } = manifest;
    const entries = Object.values(sources);
    const sum = (pick: (entry: (typeof entries)[number]) => number) => entries.reduce((all, one) => all + pick(one), 0);
    const decision = foreseen.get(id);
    const why = decision ? whyKept(decision) : '';
    const late = isFuture(Date.parse(end), now.getTime()) ? ' (dated in the future)' : '';
    const when = time(end, formatAgo(new Date(end), now) + late);
    const holds = joinNames(Object.keys(sources), 4);
    return html`<tr><td class="w0"><a href="/snapshots/${id}">${when}</a></td><td class="w0">${statusWord(status)}</td><td>${triggerText(manifest)}<div class="soft small">${holds}</div></td><td class="r num w0">${formatBytes(sum(({ bytes }) => bytes))}</td><td class="r num w0">${formatBytes(sum(({ newBytes }) => newBytes))}</td><td class="hide soft">${why}</td></tr>`;
  });
  return html`<table><thead><tr><th scope="col">when</th><th scope="col">result</th><th scope="col">made by, holds</th><th scope="col" class="r">seen</th><th scope="col" class="r">new</th><th scope="col" class="hide">why it is kept</th></tr></thead><tbody>${rows}</tbody></table>`;
}

/** The number of reasons that are shown in full. */
const MAX_REASONS = 3;

/** Returns why retention keeps a snapshot: `newest of web.media; day 2026-11-20, week 2026-W47`. */
export function whyKept({ keep, always, sources }: Foreseen): string {
  if (!keep) return 'no source needs it';
  const reasons = [...new Set([...always, ...Object.values(sources).flat()])].map((one) => oneLine(one));
  const worded = [...new Set(reasons.map(shorten))];
  return worded.length > MAX_REASONS ? `${worded.slice(0, MAX_REASONS).join('; ')}; and more` : worded.join('; ');
}

/** `newest good of web.media but for safety snapshots` → `newest`; `daily 2026-11-20` → `day 2026-11-20`. */
function shorten(reason: string): string {
  if (reason.startsWith('newest ')) return reason.includes(' with database ') ? reason : 'newest';
  return reason
    .replace(/^daily /, 'day ')
    .replace(/^weekly /, 'week ')
    .replace(/^monthly /, 'month ')
    .replace(/^yearly /, 'year ');
}

/** Renders the page of all snapshots, `after` of which are on earlier pages. */
export function snapshotsBody(
  input: SnapshotsInput,
  now: Date,
  { after, most }: { after: number; most: number },
): Html {
  const { manifests } = input;
  const page = { ...input, manifests: manifests.slice(after, after + most) };
  const more =
    after + most < manifests.length ? html`<p><a href="/snapshots?after=${after + most}">older snapshots</a></p>` : '';
  const table = page.manifests.length === 0 ? html`<p>No snapshot yet.</p>` : snapshotTable(page, now);
  return html`<h1>${plural(manifests.length, 'snapshot')}</h1><section class="card">${table}${more}</section>`;
}

/** Renders the retention plan: each snapshot, why it stays, and when it is expected to go. `after`: see above. */
export function retentionBody(
  { manifests, foreseen, zone }: SnapshotsInput,
  now: Date,
  { after, most }: { after: number; most: number },
): Html {
  const rows = manifests.slice(after, after + most).map(({ id, start, sources }) => {
    const decision = foreseen.get(id);
    const gone = decision?.keep === false ? 'at the next prune' : when(decision?.goes, { now, zone });
    const names = joinNames(Object.keys(sources), 4);
    const why = decision ? whyKept(decision) : 'unknown';
    const shown = time(start, formatWhen(new Date(start), { now, zone }));
    return html`<tr><td><a class="w0" href="/snapshots/${id}">${shown}</a><div class="only soft small">${why}</div></td><td class="hide">${why}</td><td class="w0">${gone}</td><td class="hide soft">${names}</td></tr>`;
  });
  const going = manifests.filter(({ id }) => foreseen.get(id)?.keep === false).length;
  const text =
    going === 0 ? 'The next prune removes no snapshot.' : `The next prune removes ${plural(going, 'snapshot')}.`;
  const more =
    after + most < manifests.length ? html`<p><a href="/retention?after=${after + most}">older snapshots</a></p>` : '';
  return html`<h1>${text}</h1><p class="soft">The dates assume that every scheduled run succeeds. A prune follows each full run. The space of a removed snapshot is free a day later, as far as no other snapshot needs it.</p>
<section class="card"><table><thead><tr><th scope="col">snapshot</th><th scope="col" class="hide">why it is kept</th><th scope="col">goes</th><th scope="col" class="hide">holds</th></tr></thead><tbody>${rows}</tbody></table>${more}</section>
<p class="soft">To see what a prune would do now: <code class="cmd">docker compose exec lifeboat lifeboat prune --dry-run</code></p>`;
}

function when(goes: string | undefined, { now, zone }: { now: Date; zone: string }): string {
  if (goes === undefined) return 'not within a year';
  // The forecast is by days, so it names no time of day.
  return formatWhen(new Date(goes), { now, zone }).replace(/ \d\d:\d\d .*$/, '');
}
