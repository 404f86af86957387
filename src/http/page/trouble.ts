import { lastDrillOf } from '../../overview/drills.ts';
import type { Overview } from '../../overview/overview.ts';
import type { SourceWindows } from '../../overview/windows.ts';
import type { DrillReport } from '../../report/drill-report.ts';
import type { TargetState } from '../../targets/judge.ts';
import type { Tone } from './text.ts';

/** Trouble of a source whose backups are good. */
interface Trouble {
  tone: Tone;
  /** the state of the source, in words */
  text: string;
}

/** The facts about a source in addition to its backups. */
interface Known {
  windows?: SourceWindows | undefined;
  /** the result of the last drill that restored it */
  drilled?: 'ok' | 'failed' | undefined;
  targets?: readonly TargetState[] | undefined;
}

/** Returns the worst trouble of a source whose backups are good; undefined if all is well. */
export function troubleOf({ windows, drilled, targets = [] }: Known): Trouble | undefined {
  if (drilled === 'failed') return { tone: 'bad', text: 'its last drill failed' };
  if (windows?.receiver?.state === 'failed') return { tone: 'bad', text: 'safe, but its WAL is not received' };
  if (targets.some(({ met }) => met === false)) return { tone: 'warn', text: 'safe, but a target is not met' };
  if (windows && windows.problems.length > 0) return { tone: 'warn', text: 'safe, but its WAL has a problem' };
  return undefined;
}

/** Returns the trouble of each source whose backups are good, by its name. */
export function findTroubles(
  { sources, windows, targets, destination }: Pick<Overview, 'sources' | 'windows' | 'targets' | 'destination'>,
  drills: readonly DrillReport[],
): Map<string, Trouble> {
  const found = new Map<string, Trouble>();
  for (const { name, attention } of sources) {
    if (attention !== null) continue;
    const trouble = troubleOf({
      windows: windows.find((one) => one.name === name),
      drilled: drilledOf(drills, name, destination),
      targets: targets.find((one) => one.name === name)?.targets,
    });
    if (trouble) found.set(name, trouble);
  }
  return found;
}

function drilledOf(drills: readonly DrillReport[], name: string, home: string): Known['drilled'] {
  const status = lastDrillOf(drills, name, { home })?.result.status;
  return status === 'ok' || status === 'failed' ? status : undefined;
}
