import { closeSync, openSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { State } from '../run/state.ts';
import { KnownPacks } from '../store/known/known-packs.ts';
import { KeySet } from '../store/objects/key-set.ts';
import type { ListedPack, Manifest } from '../store/objects/manifest.ts';
import { encodePackList } from '../store/objects/pack-list.ts';
import { listsOf, visitPacks } from '../store/repository/pack-lists.ts';
import { isSealedWith } from '../store/seal/encryption.ts';
import type { RunContext } from './context.ts';

/** So many packs are written to a file at once. */
const LINES_AT_ONCE = 500;

/** The result of one pass over the pack lists of all kept snapshots. */
export interface NamedPacks {
  /** the file of the packs that the run may use, see {@link KnownPacks} */
  usable: string;
  /** the same, with nothing but the ids of the packs that it may not use */
  others: string;
  /** how many bytes any snapshot uses of each pack in `measured`, by id, at most; absent: a list cannot be read */
  use?: ReadonlyMap<string, number>;
  /** true if the run may use a pack that it could not use when `before` was written */
  hasReturned: boolean;
  /** true if a list that names such packs cannot be read: they are in neither file */
  isIncomplete: boolean;
}

interface Given {
  state: Pick<State, 'damaged'>;
  context: RunContext;
  /** a directory of the run in the spool */
  directory: string;
  /** the snapshots whose packs the run may use */
  reusable: readonly Manifest[];
  /** the file `others` of the last run; it need not exist */
  before: string;
  /** ids of the packs whose use to find out */
  measured: ReadonlySet<string>;
}

/**
 * Finds the packs that kept snapshots name, and which of them the run may use: those that are at the destination,
 * undamaged and encrypted with the present keys.
 *
 * @throws what the destination throws; the signal's reason
 */
export async function listNamedPacks(given: Given): Promise<NamedPacks> {
  const { state, context, directory, reusable, before, measured } = given;
  const { repository, stored, signal } = context;
  const damaged = new Set(await state.damaged());
  const unusable = await KnownPacks.open(before).catch(() => undefined);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const [usable, others] = [path.join(directory, 'packs.ndjson'), path.join(directory, 'others.ndjson')];
  const [usableLines, otherLines] = [new Lines(usable), new Lines(others)];
  let hasReturned = false;
  const seen = new KeySet();
  const use = new Map<string, number>();
  const measure = ({ id, used, plainSize }: ListedPack) => {
    if (measured.has(id)) use.set(id, Math.max(use.get(id) ?? 0, used ?? plainSize));
  };
  const take = (pack: ListedPack) => {
    measure(pack);
    // Lists differ in how much of a pack their snapshots use.
    if (seen.has(pack.id)) return;
    seen.add(pack.id);
    if (isSealedWith(pack, repository.keys) && !damaged.has(pack.key) && stored?.has(pack)) {
      usableLines.add(encodePackList([{ ...pack, used: undefined }]));
      hasReturned ||= unusable?.has(pack.id) === true;
    } else otherLines.add(Buffer.from(`${JSON.stringify({ id: pack.id })}\n`));
  };
  try {
    const lists = listsOf(reusable);
    const unread = await visitPacks(repository, lists, take, signal);
    usableLines.flush();
    otherLines.flush();
    const isIncomplete = unread.length > 0;
    // Other snapshots keep their packs, too.
    const known = new Set(lists.map(({ key }) => key));
    const rest = listsOf(context.snapshots.map(({ manifest }) => manifest)).filter(({ key }) => !known.has(key));
    if (measured.size > 0) unread.push(...(await visitPacks(repository, rest, measure, signal)));
    return { usable, others, hasReturned, isIncomplete, ...(unread.length === 0 ? { use } : {}) };
  } finally {
    usableLines.close();
    otherLines.close();
  }
}

/** Writes lines to a new file, many at once. */
class Lines {
  private readonly file: number;
  private waiting: Buffer[] = [];

  constructor(file: string) {
    this.file = openSync(file, 'w', 0o600);
  }

  add(line: Buffer): void {
    if (this.waiting.push(line) >= LINES_AT_ONCE) this.flush();
  }

  flush(): void {
    writeFileSync(this.file, Buffer.concat(this.waiting));
    this.waiting = [];
  }

  close(): void {
    closeSync(this.file);
  }
}
