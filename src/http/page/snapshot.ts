import type { Foreseen } from '../../overview/forecast.ts';
import {
  formatAgo,
  formatBytes,
  formatCount,
  formatDuration,
  formatWhen,
  oneLine,
  plural,
} from '../../report/format.ts';
import { originText } from '../../report/status-word.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import { whyKept } from './snapshots.ts';
import { command, type Html, html, prose } from './text.ts';

/** A table of a database, as a snapshot recorded it. */
interface TableFacts {
  schema: string;
  name: string;
  rows: number;
  /** the rows were counted, not estimated */
  exact: boolean;
  bytes: number;
  /** false: its rows are not stored */
  data?: boolean;
}

/** The facts of a server that a page shows. Sizes in bytes. */
export interface ServerFacts {
  server: { version: string };
  databases: { name: string; size: number; tables: TableFacts[] }[];
}

/** The facts of each database source, or why they cannot be read. */
export type SnapshotFacts = ReadonlyMap<string, ServerFacts | { error: string }>;

const RESULTS = { ok: 'good', partial: 'partly failed', failed: 'failed' } as const;
const TONES = { ok: 'ok', partial: 'warn', failed: 'bad' } as const;
/** The tables shown of each database, largest first. */
const MAX_TABLES = 200;
/** The databases of a server that are shown. */
const MAX_DATABASES = 50;
const MAX_WARNINGS = 20;

/** Renders the page of a snapshot. */
export function snapshotBody(
  manifest: Manifest,
  { facts, foreseen, now, zone }: { facts: SnapshotFacts; foreseen?: Foreseen; now: Date; zone: string },
): Html {
  const { id, start, end, status, sources, agentVersion } = manifest;
  const origin = originText(manifest);
  const kept = foreseen
    ? html`<div><dt>${foreseen.keep ? 'Kept because' : 'Goes at the next prune'}</dt><dd>${whyKept(foreseen)}</dd></div>`
    : '';
  return html`<div class="verdict ${TONES[status]}"><h1>Snapshot ${id}</h1><p>${formatWhen(new Date(end), { now, zone })}, ${formatAgo(new Date(end), now)} · ${RESULTS[status]} · ${origin}</p></div>
<dl class="grid"><div><dt>Took</dt><dd class="num">${formatDuration(Date.parse(end) - Date.parse(start))}</dd></div><div><dt>Made by</dt><dd>Lifeboat ${oneLine(agentVersion)}</dd></div>${kept}</dl>
${Object.entries(sources).map(([name, entry]) => sourceSection(id, name, entry, facts.get(name)))}`;
}

function sourceSection(id: string, name: string, entry: ManifestSource, facts: ReturnType<SnapshotFacts['get']>): Html {
  const { status, bytes, newBytes, files, newFiles, summary, error, warnings } = entry;
  const isNew = newBytes > 0 || newFiles > 0;
  const shown = warnings.slice(0, MAX_WARNINGS);
  const rest = warnings.length - shown.length;
  const why = error
    ? html`<div class="note bad"><p><strong>${prose(error.message)}</strong> (${error.code})</p>${error.hint ? html`<p>${prose(error.hint)}</p>` : ''}</div>`
    : '';
  const warned =
    shown.length === 0
      ? ''
      : html`<div class="note">${shown.map((text) => html`<p>${prose(text)}</p>`)}${rest > 0 ? html`<p>and ${plural(rest, 'more warning')}</p>` : ''}</div>`;
  const browse = entry.index
    ? html`<p><a href="/snapshots/${id}/files?source=${encodeURIComponent(name.toWellFormed())}">Browse the files of ${oneLine(name)}</a></p>`
    : '';
  const restore =
    entry.status !== 'failed' && /^[\w.-]+$/.test(name)
      ? html`<p class="soft">To restore it:</p>${command(`restore ${id} ${name}`)}`
      : '';
  return html`<section class="card" aria-label="${oneLine(name)}"><div class="head"><h2>${oneLine(name)}</h2><span class="pill ${TONES[status]}">${RESULTS[status]}</span></div>
<dl class="grid"><div><dt>Holds</dt><dd class="num">${oneLine(summary) || plural(files, 'file')}</dd></div><div><dt>Size</dt><dd class="num">${formatBytes(bytes)}</dd></div><div><dt>New in this snapshot</dt><dd class="num">${isNew ? html`${formatBytes(newBytes)} in ${plural(newFiles, 'file')}` : 'nothing'}</dd></div></dl>
${why}${warned}${facts ? databases(facts) : ''}${browse}${restore}</section>`;
}

function databases(facts: ServerFacts | { error: string }): Html {
  if ('error' in facts) return html`<p class="soft">Its tables cannot be shown: ${prose(facts.error)}</p>`;
  const shown = facts.databases.slice(0, MAX_DATABASES);
  const rest = facts.databases.length - shown.length;
  return html`<p class="soft small">Postgres ${oneLine(facts.server.version)}</p>${shown.map(database)}${rest > 0 ? html`<p class="soft">and ${plural(rest, 'more database')}</p>` : ''}`;
}

function database({ name, size, tables }: ServerFacts['databases'][number]): Html {
  const largest = tables.toSorted((a, b) => b.bytes - a.bytes).slice(0, MAX_TABLES);
  const rest = tables.length - largest.length;
  const rows = largest.map(
    ({ schema, name: table, rows: count, exact, bytes, data }) =>
      html`<tr><td>${oneLine(schema)}.${oneLine(table)}</td><td class="r num w0">${data === false ? 'not stored' : `${exact ? '' : 'about '}${formatCount(count)}`}</td><td class="r num w0">${formatBytes(bytes)}</td></tr>`,
  );
  const more =
    rest > 0
      ? html`<p class="soft small">and ${plural(rest, 'smaller table')}: <code>lifeboat show</code> lists all</p>`
      : '';
  return html`<h3>${oneLine(name)} · ${formatBytes(size)} · ${plural(tables.length, 'table')}</h3>${rows.length === 0 ? '' : html`<table><thead><tr><th scope="col">table</th><th scope="col" class="r">rows</th><th scope="col" class="r">size</th></tr></thead><tbody>${rows}</tbody></table>`}${more}`;
}
