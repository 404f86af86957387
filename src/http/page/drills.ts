import type { DrillCheck, DrillReport, DrillResult } from '../../report/drill-report.ts';
import { drillHeadline, withTarget } from '../../report/drill-text.ts';
import { formatAge, formatAgo, formatCount, formatDuration, formatWhen, oneLine, plural } from '../../report/format.ts';
import type { DrillsReport, ListedDrill } from '../../report/terminal/listed-drill.ts';
import { command, type Html, html, joinNames, prose, type Tone, time } from './text.ts';

type When = { now: Date; zone: string };

const TONES: Record<DrillReport['status'], Tone> = { ok: 'ok', failed: 'bad', interrupted: 'warn', unproven: 'warn' };
const WORDS: Record<DrillReport['status'], string> = {
  ok: 'everything equal',
  failed: 'failed',
  interrupted: 'ended early',
  unproven: 'proved only a part',
};

/** Renders the list of drills, newest first. `bad`: documents that are no evidence, or show that some is missing. */
export function drillsBody(drills: readonly DrillReport[], bad: DrillsReport['problems'], { now, zone }: When): Html {
  const trouble = evidenceNote(bad);
  if (drills.length === 0) {
    return html`<h1>No drill yet</h1>${trouble}<p class="soft">A drill restores snapshots into throwaway containers and compares everything with the record. To run one now:</p>${command('drill')}`;
  }
  const rows = drills.toReversed().map(({ id, end, status, results, start }) => {
    const when = time(end, formatWhen(new Date(end), { now, zone }));
    const took = formatDuration(Date.parse(end) - Date.parse(start));
    return html`<tr><td><a href="/drills/${id}">${when}</a></td><td><span class="pill ${TONES[status]}">${WORDS[status]}</span></td><td class="r num">${took}</td><td class="hide">${joinNames(
      results.map(({ source }) => source),
      4,
    )}</td></tr>`;
  });
  return html`<h1>${plural(drills.length, 'drill')}</h1>${trouble}<section class="card"><table><thead><tr><th scope="col">when</th><th scope="col">result</th><th scope="col" class="r">took</th><th scope="col" class="hide">sources</th></tr></thead><tbody>${rows}</tbody></table></section>`;
}

/** The problems that are shown of the evidence. */
const MAX_BAD = 10;

function evidenceNote(bad: DrillsReport['problems']): Html | '' {
  if (bad.length === 0) return '';
  const rest = bad.length - MAX_BAD;
  const lines = bad.slice(0, MAX_BAD).map(({ error }) => html`<p>${prose(error.message)} (${error.code})</p>`);
  const more =
    rest > 0 ? html`<p>and ${plural(rest, 'more problem')}: <code>lifeboat drills</code> lists them</p>` : '';
  return html`<div class="note bad"><p><strong>The evidence of drills has problems</strong></p>${lines}${more}</div>`;
}

/** Renders the report of a drill. It prints on paper with all checks. */
export function drillBody(report: ListedDrill, { now, zone }: When): Html {
  const { id, end, trigger, by, agentVersion, results, unproven, status, signature } = report;
  const asked = by === undefined ? trigger : `${trigger}, by ${oneLine(by)}`;
  const notProven =
    unproven.length === 0
      ? ''
      : html`<div class="note"><p><strong>Not proven</strong></p>${unproven.map((one) => html`<p>${prose(one)}</p>`)}</div>`;
  return html`<div class="verdict ${TONES[status]}"><h1>${oneLine(drillHeadline(report))}</h1><p>${formatWhen(new Date(end), { now, zone })} · ${asked} · Lifeboat ${oneLine(agentVersion)} · evidence ${id}${signature === 'signed' ? ', signed' : ''}</p></div>
${notProven}${results.map((result) => drilledSource(result, corrected(report, result), { now, zone }))}`;
}

/** Says what was done about a failure, as later evidence shows it. */
function corrected({ corrected: all }: ListedDrill, { source, status }: DrillResult): Html | '' {
  if (!all || status !== 'failed') return '';
  const by = Object.hasOwn(all, source) ? all[source] : undefined;
  if (by === undefined) return html`<p>No later drill proves this source.</p>`;
  return html`<p>Corrected: <a href="/drills/${by}">drill ${by}</a> proves this source.</p>`;
}

function drilledSource(result: DrillResult, later: Html | '', when: When): Html {
  const { source, status, snapshot, heldAt, ageMs, place, image, version, restoreMs, summary, checks, notes } = result;
  const { rpo, rto, share, error } = result;
  const facts: [string, Html | string][] = [
    ...(snapshot === undefined
      ? []
      : [['Snapshot', html`<a href="/snapshots/${snapshot}">${snapshot}</a>`] as [string, Html]]),
    ...(heldAt === undefined ? [] : [['Data of', formatWhen(new Date(heldAt), when)] as [string, string]]),
    ...(ageMs === undefined ? [] : [['Age at the drill', withTarget(formatAge(ageMs), rpo)] as [string, string]]),
    ['Read from', oneLine(place)],
    ...(restoreMs === undefined ? [] : [['Restored in', withTarget(tookText(restoreMs), rto)] as [string, string]]),
    ...(share === undefined ? [] : [['Restored files', `a share of ${shareText(share)}`] as [string, string]]),
    ...(version === undefined ? [] : [['Restored on', `Postgres ${oneLine(version)}`] as [string, string]]),
    ...(image === undefined ? [] : [['Image', oneLine(image.digest ?? image.id)] as [string, string]]),
  ];
  const why = error
    ? html`<div class="note bad"><p><strong>${prose(error.message)}</strong> (${error.code})</p>${error.hint ? html`<p>${prose(error.hint)}</p>` : ''}</div>`
    : '';
  const noted =
    notes.length === 0 ? '' : html`<div class="note">${notes.map((one) => html`<p>${prose(one)}</p>`)}</div>`;
  const table =
    checks.length === 0
      ? ''
      : html`<h3>Checks</h3><table><thead><tr><th scope="col">check</th><th scope="col">of</th><th scope="col">result</th><th scope="col">details</th></tr></thead><tbody>${checks.map(checkRow)}</tbody></table>`;
  return html`<section class="card" aria-label="${oneLine(source)}"><div class="head"><h2>${oneLine(source)}</h2><span class="pill ${TONES[status]}">${status === 'ok' ? oneLine(summary ?? WORDS.ok) : WORDS[status]}</span></div>
<dl class="grid">${facts.map(([label, value]) => html`<div><dt>${label}</dt><dd class="num">${value}</dd></div>`)}</dl>${later}${why}${noted}${table}</section>`;
}

/** A time of a restore, milliseconds: small sources take less than a second. */
function tookText(ms: number): string {
  return ms < 1000 ? 'under 1s' : formatDuration(ms);
}

function shareText(share: number): string {
  return `${Math.max(1, Math.round(share * 100))} %`;
}

/** A value of a check. Counts get thousands separators. */
function valueText(value: string | number | boolean): string {
  return typeof value === 'number' && Number.isInteger(value) ? formatCount(value) : String(value);
}

/** Differences that are shown of each check. */
const MAX_DIFFERENCES = 20;

function checkRow({ name, of, result, expected, found, detail, differences = [] }: DrillCheck): Html {
  const both =
    expected === undefined || found === undefined ? [] : [`expected ${valueText(expected)}, found ${valueText(found)}`];
  const rest = differences.length - MAX_DIFFERENCES;
  const lines = [
    ...(result === 'ok' && expected !== undefined ? [valueText(expected)] : both),
    ...(detail === undefined ? [] : [detail]),
    ...differences.slice(0, MAX_DIFFERENCES),
    ...(rest > 0 ? [`and ${plural(rest, 'more difference')}`] : []),
  ];
  const shown = result === 'failed' ? html`<strong>failed</strong>` : result === 'skipped' ? 'not checked' : 'equal';
  return html`<tr><th scope="row">${oneLine(name)}</th><td>${oneLine(of)}</td><td>${shown}</td><td>${lines.map((line) => html`<div>${prose(line)}</div>`)}</td></tr>`;
}

/** Says in a card how the last drill of a source went. */
export function drillFact({ report, result }: { report: DrillReport; result: DrillResult }, now: Date): Html {
  const { share, restoreMs } = result;
  const part = share === undefined ? '' : ` a share of ${shareText(share)}`;
  const took = restoreMs === undefined ? '' : ` · restored${part} in ${tookText(restoreMs)}`;
  const ago = time(report.end, formatAgo(new Date(report.end), now));
  return html`<a href="/drills/${report.id}">${ago}</a> · ${WORDS[result.status]}${took}`;
}
