import { LifeboatError } from '../../base/errors.ts';
import { selectNames } from '../../plan/values/name-patterns.ts';
import { vanishedSources } from '../../run/history.ts';
import { isRegular } from '../../store/objects/manifest.ts';
import type { RestoreDeps, RestoreRequest } from '../context.ts';

/** A source that a restore of all sources leaves alone. */
export interface Unchanged {
  source: string;
  reason: string;
}

/**
 * Chooses the sources of a restore of all: those of the plan, and those of the snapshot. For `latest`, these are the
 * sources of all snapshots except those whose loss somebody has accepted, because the newest snapshot may hold a single
 * source. A source stays unchanged if the snapshot lacks it (for `latest`, if every snapshot lacks it), or if it
 * consists of mounted files. Base backups are ignored, because the dump of their server is restored. A source that the
 * plan lacks fails later, and is reported by its name. With `only`, all other sources are ignored.
 *
 * @throws SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN if a word of `only` selects nothing, the errors of the destination
 */
export async function chooseSources(
  deps: Pick<RestoreDeps, 'plan' | 'repository' | 'state' | 'otherRepository'>,
  { snapshot: wanted, only, signal }: Pick<RestoreRequest, 'snapshot' | 'only' | 'signal'>,
): Promise<{ names: string[]; unchanged: Unchanged[] }> {
  const repository = await deps.repository();
  const plan = await deps.plan();
  const isLatest = wanted === 'latest';
  const { snapshots } = isLatest
    ? await repository.snapshots(signal)
    : { snapshots: [await repository.resolve(wanted)] };
  const manifests = snapshots.map(({ manifest }) => manifest);
  const kinds = new Map(plan.sources.map(({ name, kind }): [string, string] => [name, kind]));
  // The losses that somebody accepted are about the agent's own repository.
  const accepted = isLatest && !deps.otherRepository ? await deps.state.accepted() : {};
  // A safety snapshot or an import holds old data of a source, which may be gone for good reasons.
  const regular = manifests.filter((one) => !isLatest || isRegular(one));
  for (const { name, kind } of vanishedSources(regular, plan, { accepted })) kinds.set(name, kind);
  const holds = (name: string) => manifests.some(({ sources }) => sources[name] !== undefined);
  const names: string[] = [];
  const unchanged: Unchanged[] = [];
  const sorted = [...kinds].sort(([a], [b]) => (a < b ? -1 : 1));
  const chosen = only ? choose(only, kinds) : undefined;
  for (const [source, kind] of sorted) {
    if ((chosen && !chosen.includes(source)) || kind === 'base') continue;
    if (!holds(source))
      unchanged.push({ source, reason: isLatest ? 'no snapshot holds it' : 'the snapshot does not hold it' });
    else if (kind === 'files') unchanged.push({ source, reason: 'restore it with --to-directory' });
    else names.push(source);
  }
  return { names, unchanged };
}

function choose(only: readonly string[], kinds: ReadonlyMap<string, string>): string[] {
  const { selected, unmatched } = selectNames(only, [...kinds.keys()]);
  if (unmatched.length === 0) return selected;
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unmatched.join(', ')}`, {
    hint: `The sources are: ${[...kinds.keys()].sort().join(', ')}.`,
  });
}
