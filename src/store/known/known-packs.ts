import { createReadStream } from 'node:fs';
import { readLines } from '../filesystem/read-index.ts';
import { WordSet } from '../objects/key-set.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/** The start of each line, up to the id of the pack, see {@link encodePackList}. */
const BEFORE_ID = '{"id":"'.length;
const ID_DIGITS = 32;

/**
 * The packs that a run may use besides those of a source's last snapshot: kept snapshots name them, they are at the
 * destination, undamaged, and encrypted with the present keys. Takes 20 to 60 bytes of memory for each.
 */
export class KnownPacks {
  private readonly file: string;
  private readonly ids = new WordSet(5);
  private readonly words = Uint32Array.of(1, 0, 0, 0, 0);

  private constructor(file: string) {
    this.file = file;
  }

  /** Opens a file of packs, one line for each as in a list of packs. */
  static async open(file: string): Promise<KnownPacks> {
    const packs = new KnownPacks(file);
    for await (const line of readLines(createReadStream(file, { highWaterMark: 256 * 1024 }))) {
      packs.add(idOf(line));
    }
    return packs;
  }

  /** Adds a pack that was added to the file. */
  add(pack: string): void {
    this.take(pack);
    this.ids.add(this.words);
  }

  has(pack: string): boolean {
    this.take(pack);
    return this.ids.has(this.words);
  }

  /**
   * Returns those packs whose ids are in `ids`. The run itself wrote the lines from lists that were validated. To load
   * the schema here would cost 14 MiB of memory for each process that stores a tree.
   */
  async refs(ids: ReadonlySet<string>): Promise<PackRef[]> {
    const found = new Map<string, PackRef>();
    for await (const line of readLines(createReadStream(this.file, { highWaterMark: 256 * 1024 })))
      if (ids.has(idOf(line))) found.set(idOf(line), JSON.parse(line.toString()) as PackRef);
    return [...found.values()];
  }

  private take(pack: string): void {
    for (let i = 0; i < 4; i++) this.words[i + 1] = Number.parseInt(pack.slice(i * 8, i * 8 + 8), 16);
  }
}

function idOf(line: Buffer): string {
  return line.toString('latin1', BEFORE_ID, BEFORE_ID + ID_DIGITS);
}
