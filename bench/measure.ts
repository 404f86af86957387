import { readdirSync, readFileSync } from 'node:fs';
import { sh } from '../test/harness/stack.ts';

/** The time and memory of one contender. */
export interface Measured {
  /** seconds of wall time */
  seconds: number;
  /** the highest resident memory of any single process that `whose` picks, MiB; undefined where it cannot be seen */
  peakMiB?: number;
}

/** Says whether a process of this machine belongs to what is measured. */
export type Whose = (process: { pid: number; argv: string[]; container: string | undefined }) => boolean;

/** Runs a command line through the shell; a status other than 0 ends the benchmark. */
export async function shell(command: string): Promise<string> {
  const { code, stdout, stderr } = await sh('bash', ['-o', 'pipefail', '-c', command]);
  if (code !== 0) throw new Error(`${command} → ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/**
 * Runs one contender and takes its time and memory. Dirty pages are written out first, so that nobody pays for what
 * another one wrote. The caches stay warm for all: the data was just made and fits into memory.
 */
export async function measure(work: () => Promise<unknown>, whose?: Whose): Promise<Measured> {
  await sh('sync', []);
  const memory = whose ? watchMemory(whose) : undefined;
  const start = performance.now();
  try {
    await work();
    return { seconds: (performance.now() - start) / 1000, ...memory?.stop() };
  } catch (error) {
    memory?.stop();
    throw error;
  }
}

const SAMPLE_MS = 40;

/**
 * Samples the high-water marks (VmHWM, proc(5)) of the processes that `whose` picks. Sees containers too when it runs
 * on the engine's own machine. Processes that are there from the start do not count: the idle agent is measured by
 * itself.
 */
function watchMemory(whose: Whose): { stop(): { peakMiB?: number } } {
  const before = new Set(processes().map(({ pid }) => pid));
  const peaks = new Map<number, number>();
  const ours = new Map<number, boolean>();
  const look = () => {
    for (const process of processes()) {
      const { pid } = process;
      if (before.has(pid)) continue;
      if (!ours.get(pid)) ours.set(pid, whose(process));
      if (ours.get(pid)) peaks.set(pid, Math.max(peaks.get(pid) ?? 0, highWater(pid)));
    }
  };
  const timer = setInterval(look, SAMPLE_MS);
  return {
    stop() {
      clearInterval(timer);
      return peaks.size === 0 ? {} : { peakMiB: Math.max(...peaks.values()) };
    },
  };
}

function processes(): { pid: number; argv: string[]; container: string | undefined }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const argv = read(`/proc/${name}/cmdline`).split('\0').slice(0, -1);
    const container = /[0-9a-f]{64}/.exec(read(`/proc/${name}/cgroup`))?.[0];
    return argv.length === 0 ? [] : [{ pid: Number(name), argv, container }];
  });
}

/** MiB; 0 for a process that is gone. */
export function highWater(pid: number, field = 'VmHWM'): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(read(`/proc/${pid}/status`));
  return match ? Number(match[1]) / 1024 : 0;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Lifeboat's own processes, in the agent or in a helper of its image. */
export const lifeboatProcess: Whose = ({ argv, container }) =>
  container !== undefined && argv.some((word) => word.endsWith('/dist/cli.js'));

export const programNamed =
  (name: string): Whose =>
  ({ argv }) =>
    argv[0]?.split('/').at(-1) === name;

/** The middle value; of two middle ones, the mean. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Collects what the rounds measured, by contender. */
export class Results {
  readonly measured = new Map<string, Measured[]>();

  async run(contender: string, work: () => Promise<unknown>, whose?: Whose): Promise<void> {
    this.add(contender, await measure(work, whose));
  }

  /** Adds what a round measured by itself. */
  add(contender: string, one: Measured): void {
    this.measured.set(contender, [...(this.measured.get(contender) ?? []), one]);
    const memory = one.peakMiB === undefined ? '' : `, ${one.peakMiB.toFixed(0)} MiB`;
    process.stderr.write(`  ${contender}: ${one.seconds.toFixed(2)} s${memory}\n`);
  }

  seconds(contender: string): number {
    return median(this.of(contender).map(({ seconds }) => seconds));
  }

  /** The median of the ratios within a round: what else the machine did then slowed both. */
  ratio(contender: string, rival: string): number {
    const theirs = this.of(rival);
    return median(this.of(contender).map(({ seconds }, round) => seconds / theirs[round]!.seconds));
  }

  peakMiB(contender: string): number | undefined {
    const peaks = this.of(contender).flatMap(({ peakMiB }) => (peakMiB === undefined ? [] : [peakMiB]));
    return peaks.length === 0 ? undefined : Math.max(...peaks);
  }

  private of(contender: string): Measured[] {
    const found = this.measured.get(contender);
    if (!found) throw new Error(`${contender} was not measured`);
    return found;
  }
}

/** A budget of the design: a contender's time against a rival's, or an absolute amount of memory. */
export type Budget = { contender: string; rival: string; most: number } | { contender: string; mostMiB: number };

/** The tables of the result, as Markdown. */
export function report(results: Results, budgets: readonly Budget[]): string {
  const lines = ['| what | median | all rounds | peak memory |', '|---|---|---|---|'];
  for (const [contender, all] of results.measured) {
    const rounds = all.map(({ seconds }) => seconds.toFixed(1)).join(' · ');
    const peak = results.peakMiB(contender);
    const memory = peak === undefined ? '' : `${peak.toFixed(0)} MiB`;
    lines.push(`| ${contender} | ${results.seconds(contender).toFixed(2)} s | ${rounds} s | ${memory} |`);
  }
  lines.push('', '| budget | measured | most | met |', '|---|---|---|---|');
  for (const budget of budgets) lines.push(budgetLine(results, budget));
  return lines.join('\n');
}

function budgetLine(results: Results, budget: Budget): string {
  if ('rival' in budget) {
    const ratio = results.ratio(budget.contender, budget.rival);
    const met = ratio <= budget.most ? 'yes' : 'no';
    return `| ${budget.contender} ÷ ${budget.rival} | ${ratio.toFixed(2)} | ${budget.most} | ${met} |`;
  }
  const peak = results.peakMiB(budget.contender);
  const met = peak === undefined ? 'not seen' : peak <= budget.mostMiB ? 'yes' : 'no';
  return `| memory of ${budget.contender} | ${peak?.toFixed(0) ?? '?'} MiB | ${budget.mostMiB} MiB | ${met} |`;
}
