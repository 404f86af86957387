import path from 'node:path';
import { type ErrorInfo, LifeboatError } from '../base/errors.ts';
import { withLookDirectory } from '../run/spool.ts';
import { shortPath, type TreePath } from '../store/filesystem/path.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import { type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { isDamage } from '../store/repository/damage.ts';
import { visitPacks } from '../store/repository/pack-lists.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';

/** The effect of damaged objects on one source of one snapshot. */
export interface Affected {
  snapshot: string;
  source: string;
  /** `whole`: nothing of the source can be restored from this snapshot; `part`: some files cannot be restored */
  extent: 'whole' | 'part';
  /** number of files that cannot be restored; with `unknown`, all files of the source */
  files: number;
  /** true if the affected files are unknown, because the index could not be decrypted or read */
  unknown?: true;
  /** paths of the first affected files, for people */
  examples: string[];
}

/** `spool`: the spool's directory of runs, with room for one index at a time. */
interface LookOptions {
  spool: string;
  signal: AbortSignal;
}

const EXAMPLES = 5;

interface Found {
  damaged: ReadonlyMap<string, ErrorInfo>;
  /** true if the check ended early, so that no more is read at the destination */
  stopped: boolean;
}

/** Returns the sources of snapshots that damaged objects affect. */
export async function findAffected(
  repository: Repository,
  snapshots: readonly Snapshot[],
  found: Found,
  options: LookOptions,
): Promise<Affected[]> {
  const affected: Affected[] = [];
  if (found.damaged.size === 0) return affected;
  const packsOf = damagedPacks(repository, found, options.signal);
  for (const { manifest } of snapshots) {
    for (const [source, entry] of Object.entries(manifest.sources)) {
      const harm = await affectedSource(repository, entry, { ...found, packsOf }, options);
      if (harm) affected.push({ snapshot: manifest.id, source, ...harm });
    }
  }
  return affected;
}

/** Returns the ids of the damaged packs that a source needs. */
type DamagedPacks = (entry: ManifestSource) => Promise<ReadonlySet<string>>;

/** Remembers the result of each list. A list that cannot be read now says nothing about packs. */
function damagedPacks(repository: Repository, { damaged, stopped }: Found, signal: AbortSignal): DamagedPacks {
  const known = new Map<string, Set<string>>();
  return async ({ packs }) => {
    const found = known.get(packs?.key ?? '') ?? new Set<string>();
    if (!packs || stopped || known.has(packs.key)) return found;
    const add = ({ id, key }: PackRef) => damaged.has(key) && found.add(id);
    await visitPacks(repository, [packs], add, signal);
    known.set(packs.key, found);
    return found;
  };
}

async function affectedSource(
  repository: Repository,
  entry: ManifestSource,
  { damaged, stopped, packsOf }: Found & { packsOf: DamagedPacks },
  options: LookOptions,
): Promise<Omit<Affected, 'snapshot' | 'source'> | undefined> {
  const whole = { extent: 'whole' as const, files: entry.files, examples: [] };
  if ([entry.index, entry.packs].some((ref) => ref && damaged.has(ref.key))) return whole;
  const packs = await packsOf(entry);
  const factsLost = entry.facts !== undefined && damaged.has(entry.facts.key);
  if (packs.size === 0 && !factsLost) return undefined;
  // A database needs its facts and every file of its dump. A volume can be restored without its damaged files.
  if (entry.kind === 'postgres' || !entry.index) return whole;
  const { index } = entry;
  const unknown = { extent: 'part' as const, files: entry.files, unknown: true as const, examples: [] };
  if (stopped) return unknown;
  try {
    return await withLookDirectory(options.spool, async (directory) => {
      const file = path.join(directory, 'index.ndjson');
      await repository.fetchIndex(withKeyId(index, entry), file, options.signal);
      const result = { extent: 'part' as const, files: 0, examples: [] as string[] };
      // A file in parts counts once.
      let last: TreePath | undefined;
      for await (const line of readIndexFileLines(file)) {
        if (line.pack === undefined || !packs.has(line.pack) || line.path === last) continue;
        last = line.path;
        result.files += 1;
        if (result.examples.length < EXAMPLES) result.examples.push(shortPath(line.path));
      }
      return result;
    });
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof LifeboatError)) throw error;
    return isDamage(error) ? whole : unknown;
  }
}
