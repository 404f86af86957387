import { LifeboatError } from '../../base/errors.ts';
import type { Plan } from '../../plan/model.ts';
import { selectNames } from '../../plan/values/name-patterns.ts';
import { sourcesHint } from '../../plan/values/suggest.ts';
import { projectOfSource, vanishedSources } from '../../run/history.ts';
import { isRegular, type Manifest } from '../../store/objects/manifest.ts';
import type { RestoreDeps, RestoreRequest } from '../context.ts';

/** A source that a restore of all sources leaves alone. */
export interface Unchanged {
  source: string;
  reason: string;
}

/**
 * Chooses the sources of a restore of all: those of the plan, and those of the snapshot. For `latest`, these are the
 * sources of all snapshots except those whose loss somebody has accepted, because the newest snapshot may hold a single
 * source. A source stays unchanged if the snapshot lacks it (for `latest`, if every snapshot lacks it), if it consists
 * of mounted files, or if it is retired. In a copy, sources of other projects stay unchanged too. Base backups are
 * ignored, because the dump of their server is restored. Another source that the plan lacks fails later, and is
 * reported by its name. With `only`, all other sources are ignored.
 *
 * @throws SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN if a word of `only` selects nothing, the errors of the destination
 */
export async function chooseSources(
  deps: Pick<RestoreDeps, 'plan' | 'repository' | 'state' | 'otherRepository' | 'isCopy'>,
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
  const whyUnchanged = (name: string, kind: string) => {
    if (deps.isCopy && projectOfSource(name) !== undefined) return 'it belongs to another project';
    if (!holds(name)) return isLatest ? 'no snapshot holds it' : 'the snapshot does not hold it';
    if (kind === 'files') return 'restore it with --to-directory';
    const retired = isLatest && isRetired(name, plan, regular);
    return retired ? 'no service has it, and newer snapshots lack it; restore it alone if you need it' : undefined;
  };
  const names: string[] = [];
  const unchanged: Unchanged[] = [];
  const sorted = [...kinds].sort(([a], [b]) => (a < b ? -1 : 1));
  const chosen = only ? choose(only, kinds) : undefined;
  for (const [source, kind] of sorted) {
    if ((chosen && !chosen.includes(source)) || kind === 'base') continue;
    const reason = whyUnchanged(source, kind);
    if (reason === undefined) names.push(source);
    else unchanged.push({ source, reason });
  }
  return { names, unchanged };
}

/**
 * Returns whether a source was given up: no service has it, and a later scheduled run stored what was stored with it
 * before, but not the source. A new host knows nothing of losses that somebody accepted on the old one.
 *
 * @param manifests newest first
 */
function isRetired(name: string, plan: Plan, manifests: readonly Manifest[]): boolean {
  const planned = new Set([...plan.sources.map((source) => source.name), ...Object.keys(plan.shared ?? {})]);
  if (planned.has(name)) return false;
  const newest = manifests.findIndex(({ sources }) => sources[name] !== undefined);
  const isScheduled = ({ trigger }: Manifest) => trigger === 'schedule' || trigger === 'catch-up';
  const last = manifests.find((one) => isScheduled(one) && one.sources[name] !== undefined);
  if (!last) return false;
  const companions = Object.keys(last.sources).filter((other) => planned.has(other));
  if (companions.length === 0) return false;
  return manifests
    .slice(0, newest)
    .some((one) => isScheduled(one) && companions.every((other) => one.sources[other] !== undefined));
}

function choose(only: readonly string[], kinds: ReadonlyMap<string, string>): string[] {
  const { selected, unmatched } = selectNames(only, [...kinds.keys()]);
  if (unmatched.length === 0) return selected;
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unmatched.join(', ')}`, {
    hint: sourcesHint(unmatched, [...kinds.keys()]),
  });
}
