import { type Accepted, coversLoss } from '../plan/accepted.ts';
import { eitherPolicy, type KeepRule, type KeepSnapshot } from '../plan/keep.ts';
import type { KeepEntry } from '../plan/keep-databases.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { parseKeep } from '../plan/retention.ts';
import type { SourceStatus } from '../run/source-status.ts';
import { isRegular, type Manifest, type ManifestSource } from '../store/objects/manifest.ts';
import type { Pin } from '../store/repository/pins.ts';
import { parseLsn } from '../store/wal/names.ts';

/** Turns manifests, plan and state into the input of the retention rules. No I/O. */

interface RuleInput {
  /** newest first */
  manifests: readonly Manifest[];
  plan: Plan;
  /** LIFEBOAT_KEEP */
  keep: KeepPolicy;
  /** the status of each source, see `listSourceStatuses` */
  listSourceStatuses: readonly SourceStatus[];
  accepted: Accepted;
}

/** Returns a rule for each source that a manifest names. */
export function keepRules(input: RuleInput): Map<string, KeepRule> {
  const names = new Set(input.manifests.flatMap(({ sources }) => Object.keys(sources)));
  return new Map([...names].sort().map((name) => [name, ruleOf(name, input)]));
}

function ruleOf(name: string, { manifests, plan, keep, listSourceStatuses, accepted }: RuleInput): KeepRule {
  const acceptance = acceptedOf(accepted[name]);
  const planned = plan.sources.find((source) => source.name === name);
  const status = listSourceStatuses.find((one) => one.name === name);
  if (planned) {
    // Until somebody repairs the source, its last good snapshots may be the only ones it will ever have.
    const failed = status?.last?.status === 'failed';
    const hold = planned.keepInDoubt ?? (failed ? `${name} failed last` : undefined);
    const starts = planned.kind === 'base' ? { startsWindow: true as const } : {};
    return { policy: planned.keep, ...starts, ...acceptance, ...(hold === undefined ? {} : { hold }) };
  }
  // The volume of a shared name is stored under another one, and the snapshots under this name are its history.
  const storedAs = plan.sources.find((source) => source.name === plan.shared?.[name]);
  const isGoneForGood = status === undefined && plan.shared?.[name] === undefined;
  if (isGoneForGood) return acceptance;
  // Its label is gone, but its manifests contain the policy that it had.
  const own = manifests.map(({ sources }) => sources[name]?.keep).find((text) => text !== undefined);
  const parsed = own === undefined ? undefined : parseKeep(own);
  const present = storedAs?.keep ?? keep;
  // The run that changes the name does not judge the history under the former name.
  const isNew = storedAs && manifests.filter(({ sources }) => isStored(sources[storedAs.name])).length < 2;
  const unread = plan.unreadLabels ? 'the labels of a Swarm service cannot be read' : undefined;
  const hold = storedAs?.keepInDoubt ?? (isNew ? `its volume has just become ${storedAs.name}` : unread);
  return {
    policy: parsed && 'value' in parsed ? eitherPolicy(present, parsed.value) : present,
    ...(manifests.some(({ sources }) => sources[name]?.kind === 'base') ? { startsWindow: true as const } : {}),
    ...acceptance,
    ...(hold === undefined ? {} : { hold }),
  };
}

function isStored(entry: ManifestSource | undefined): boolean {
  return entry !== undefined && entry.status !== 'failed';
}

function acceptedOf(accepted: Accepted[string] | undefined): Pick<KeepRule, 'acceptedUntil' | 'acceptedSequence'> {
  if (accepted === undefined || !coversLoss(accepted, 'fall')) return {};
  return typeof accepted === 'string'
    ? { acceptedUntil: Date.parse(accepted) }
    : { acceptedSequence: accepted.sequence };
}

/** Returns a snapshot in the form that the retention rules need. */
export function keepSnapshot(manifest: Manifest, pin: Pin | undefined): KeepSnapshot {
  const { id, sequence, start, end, sources } = manifest;
  return {
    id,
    sequence,
    start: Date.parse(start),
    end: Date.parse(end),
    safety: !isRegular(manifest),
    ...(pin ? { pinned: pin.reason } : {}),
    sources: Object.fromEntries(
      Object.entries(sources).map(([name, { status, fell, databases, base }]) => [
        name,
        {
          status,
          ...(base ? { base: keepBase(base) } : {}),
          ...(fell ? { fellSince: fell.since } : {}),
          ...(databases ? { databases: byStatus(databases) } : {}),
        },
      ]),
    ),
  };
}

function keepBase({ systemId, era, timeline, startLsn, stopLsn }: NonNullable<ManifestSource['base']>) {
  const place = { systemId, timeline, start: parseLsn(startLsn), stop: parseLsn(stopLsn) };
  return era === undefined ? place : { ...place, era };
}

function byStatus(databases: NonNullable<ManifestSource['databases']>): NonNullable<KeepEntry['databases']> {
  const named = (wanted: string) => databases.filter(({ status }) => status === wanted).map(({ name }) => name);
  return { stored: named('ok'), missing: [...named('failed'), ...named('closed')] };
}
