import type { RunProgress, SourceProgress } from '../../overview/progress-file.ts';
import { formatAgo, oneLine } from '../../report/format.ts';
import { renderProgress } from '../../report/text.ts';
import type { RunVerb } from '../../run/journal.ts';
import { type Html, html, time } from './text.ts';

/** The run in progress. */
export interface Live {
  verb: RunVerb;
  id: string;
  /** ISO time; only of a backup */
  start?: string;
  /** absent if the run has not said anything yet */
  progress?: RunProgress;
}

/** The progress of one source, for people and for a bar. Sizes in bytes; `total` 0: unknown. */
interface LiveLine {
  source: string;
  text: string;
  state: SourceProgress['state'];
  done: number;
  total: number;
}

const WORDS: Record<SourceProgress['state'], string> = {
  waiting: 'waits for its turn',
  running: 'started',
  ok: 'done',
  partial: 'partly failed',
  failed: 'failed',
};

/** Returns a line for each source of a run, in the order of its names. */
export function liveLines({ progress }: Live): LiveLine[] {
  return Object.entries(progress?.sources ?? {}).map(([source, { state, progress: now, rate }]) => {
    const text = state === 'running' && now ? renderProgress({ ...now, source: '' }, rate).trim() : WORDS[state];
    const isOver = state !== 'running' && state !== 'waiting';
    const total = isOver ? 1 : (now?.total ?? 0);
    return { source, text, state, done: isOver ? 1 : (now?.done ?? 0), total };
  });
}

/** Renders the run in progress. The script of the page changes the texts and bars in place. */
export function liveSection(live: Live, now: Date): Html {
  const since =
    live.start === undefined ? '' : html` · began ${time(live.start, formatAgo(new Date(live.start), now))}`;
  const lines = liveLines(live).map(({ source, text, done, total }, i) => {
    const bar =
      total > 0
        ? html`<progress id="bar-${i}" max="${total}" value="${Math.min(done, total)}" aria-label="${oneLine(source)}"></progress>`
        : html`<progress id="bar-${i}" aria-label="${oneLine(source)}"></progress>`;
    return html`<li><div class="head"><span class="ink">${oneLine(source)}</span><span class="soft num small" id="run-${i}">${text}</span></div>${bar}</li>`;
  });
  return html`<section class="card run" id="run" data-run="${live.id}" aria-label="Run in progress"><div class="head"><h2>A ${live.verb} is in progress</h2><span class="soft small">${live.id}${since}</span></div>${lines.length > 0 ? html`<ul>${lines}</ul>` : ''}</section>`;
}
