import { errorOf } from '../../backup/others.ts';
import { keptLines } from '../../kept/list.ts';
import { lastDrillOf } from '../../overview/drills.ts';
import type { Overview } from '../../overview/overview.ts';
import { pastOf } from '../../overview/past.ts';
import { destinationErrors, projectProblems } from '../../overview/problems.ts';
import type { PlannedSource } from '../../plan/model.ts';
import { nextRun } from '../../plan/values/schedule.ts';
import type { RanRun } from '../../record/run-log.ts';
import type { DrillReport } from '../../report/drill-report.ts';
import { formatAgo, oneLine, plural } from '../../report/format.ts';
import { problemText } from '../../report/problem-text.ts';
import { type Live, liveSection } from './live.ts';
import { placesSection } from './places.ts';
import { type SnapshotsInput, snapshotTable } from './snapshots.ts';
import { type CardInput, sourceCard, stateOf } from './source-card.ts';
import { command, type Html, html, prose } from './text.ts';
import { judge } from './verdict.ts';

/** The content of the first page. */
interface HomeInput {
  overview: Overview;
  runs: readonly RanRun[];
  /** oldest first */
  drills: readonly DrillReport[];
  snapshots: SnapshotsInput;
  live: Live | null;
  now: Date;
  /** why the facts are old, if they could not be collected again */
  stale?: string;
}

/** Beyond this number, healthy sources are lines of a table. */
const MAX_CARDS = 40;
const RECENT = 8;
/** The problems that are shown. */
const MAX_PROBLEMS = 50;

/** Renders the first page: a sentence about everything, then each source. */
export function homeBody(input: HomeInput): Html {
  const { overview, live, now } = input;
  const { zone } = overview;
  const verdict = judge(overview, { now, drills: input.drills, isStale: input.stale !== undefined });
  const inputs = cardInputs(input);
  const [cards, rows] = [inputs.slice(0, MAX_CARDS), inputs.slice(MAX_CARDS)];
  return html`<div class="verdict ${verdict.tone}"><h1>${verdict.text}</h1><p>${verdict.more.map((text) => html`${text} `)}</p></div>
${input.stale === undefined ? '' : html`<div class="note"><p>Lifeboat cannot look at the project now: ${prose(input.stale)}</p></div>`}
${live ? liveSection(live, now) : ''}
${problems(overview)}
${cards.map((one) => sourceCard(one, { now, zone }))}
${rows.length === 0 ? '' : otherSources(rows, now)}
${placesSection(overview, now)}
${recent(input)}
${kept(overview, now)}
<p class="soft">To bring something back: ${command(`restore latest ${exampleOf(inputs)}`)}</p><p class="soft">It shows what it would do, and asks.</p>`;
}

/** Returns the cards in their order. Sources that need attention come first. */
function cardInputs({ overview, runs, drills, now }: HomeInput): CardInput[] {
  const { plan, zone, windows, found } = overview;
  const planned = new Map(plan.sources.map((one) => [one.name, one]));
  const all = overview.sources.map((source): CardInput => {
    const of = planned.get(source.name);
    const drill = lastDrillOf(drills, source.name, { home: overview.destination });
    const its = windows.find(({ name }) => name === source.name);
    return {
      source,
      past: pastOf(runs, found.manifests, source.name),
      unread: found.problem !== undefined,
      ...(of ? { planned: of, ...ownNextRun(nextRun(of.schedule, zone, now), overview) } : {}),
      ...(its ? { windows: its } : {}),
      targets: overview.targets.find(({ name }) => name === source.name)?.targets ?? [],
      ...(drill ? { drill } : {}),
    };
  });
  const rank = (one: CardInput) => (stateOf(one).tone === 'ok' ? 1 + KINDS.indexOf(one.planned?.kind ?? 'base') : 0);
  return all.sort((a, b) => rank(a) - rank(b));
}

/** The order of healthy sources. */
const KINDS: PlannedSource['kind'][] = ['postgres', 'volume', 'files', 'base'];

/** The first line of the page has the next run of the project. */
function ownNextRun(next: Date, overview: Overview): { nextRun?: Date } {
  return next.toISOString() === overview.nextRun ? {} : { nextRun: next };
}

function problems(overview: Overview): Html | '' {
  const errors = destinationErrors(overview).map(({ message, code, hint }) => ({
    text: `${message} (${code})`,
    hint,
    bad: true,
  }));
  const others = projectProblems(overview).map((problem) => ({
    text: `${problemText(problem)} (${problem.code})`,
    hint: problem.hint,
    bad: problem.severity === 'error',
  }));
  const all = [...lastRunError(overview), ...errors, ...others];
  if (all.length === 0) return '';
  const rest = all.length - MAX_PROBLEMS;
  const more = rest > 0 ? html`<p>and ${plural(rest, 'more problem')}: ${command('plan')}</p>` : '';
  const notes = all
    .slice(0, MAX_PROBLEMS)
    .map(
      ({ text, hint, bad }) =>
        html`<div class="note ${bad ? 'bad' : 'warn'}"><p><strong>${prose(text)}</strong></p>${hint === undefined ? '' : html`<p>${prose(hint)}</p>`}</div>`,
    );
  return html`<section class="card" aria-label="Problems"><h2>${plural(all.length, 'problem')} of the project</h2>${notes}${more}</section>`;
}

/** Returns why the last run failed as a whole, unless a source or a problem says it already. */
function lastRunError({ last, sources }: Overview): { text: string; hint: string | undefined; bad: boolean }[] {
  if (last?.status !== 'failed' || !last.error) return [];
  const { message, code, hint } = last.error;
  if (sources.some((source) => errorOf(source)?.message === message)) return [];
  return [{ text: `the last run failed: ${message} (${code})`, hint, bad: true }];
}

function otherSources(rows: readonly CardInput[], now: Date): Html {
  const lines = rows.map((one) => {
    const { name, lastGood } = one.source;
    const ago = lastGood ? formatAgo(new Date(lastGood.at), now) : 'never';
    return html`<tr><td>${oneLine(name)}</td><td>${stateOf(one).text}</td><td class="w0">${ago}</td></tr>`;
  });
  return html`<section class="card"><h2>Other sources</h2><table><thead><tr><th scope="col">source</th><th scope="col">state</th><th scope="col">last good</th></tr></thead><tbody>${lines}</tbody></table></section>`;
}

function recent({ snapshots, overview, now }: HomeInput): Html | '' {
  const count = overview.found.manifests.length;
  if (count === 0) return '';
  const link = count > RECENT ? html`<a href="/snapshots">all ${count}</a>` : '';
  return html`<section class="card"><div class="head"><h2>Recent snapshots</h2>${link}</div>${snapshotTable(snapshots, now, RECENT)}</section>`;
}

function kept(overview: Overview, now: Date): Html | '' {
  const lines = keptLines(overview.kept, now);
  if (lines.length === 0) return '';
  // The lines of all others say what to do.
  const usual = overview.kept.restores.filter((one) => !one.missing && !one.refused && !one.forgotten);
  const next = usual.map(({ id, inUse }) => {
    const back = inUse === 'restored' ? 'To undo the restore' : 'To undo the rollback';
    return html`<p class="soft">${back}: ${command(`rollback ${id}`)}</p><p class="soft">To delete what is not in use: ${command(`rollback ${id} --forget`)}</p>`;
  });
  return html`<section class="card"><h2>Data from before a restore</h2>${lines.map((line) => html`<p>${prose(line)}</p>`)}${next}</section>`;
}

function exampleOf(inputs: readonly CardInput[]): string {
  const names = inputs.filter(({ planned }) => planned && planned.kind !== 'base').map(({ source }) => source.name);
  return names.find((name) => /^[\w.-]+$/.test(name)) ?? 'SOURCE';
}
