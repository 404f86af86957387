import { hash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { TreePath } from '../filesystem/path.ts';
import { HashTable } from '../known/hash-table.ts';
import { LineLog } from './line-log.ts';

/**
 * With a selection: where a file is restored whose first name was not selected. Takes 23 to 46 bytes of memory for each
 * such file: the names are in the spool.
 */
export class FirstNames {
  private readonly spool: string;
  private readonly offsets = new HashTable();
  private log: LineLog | undefined;

  /** @param spool an existing directory */
  constructor(spool: string) {
    this.spool = spool;
  }

  /** Records the first restored name of a file. `target`: its first name in the index. */
  async add(target: TreePath, restored: TreePath): Promise<void> {
    this.log ??= await LineLog.create(join(this.spool, `links-${randomBytes(8).toString('hex')}`));
    this.offsets.set(keyOf(target), this.log.add(`${JSON.stringify([target, restored])}\n`));
    if (this.log.full) await this.log.flush();
  }

  /** Returns the first restored name of a file; undefined if it has none yet. */
  async find(target: TreePath): Promise<TreePath | undefined> {
    const at = this.offsets.get(keyOf(target));
    const line = at === undefined ? undefined : await this.log?.lineAt(at);
    if (!line) return undefined;
    const [found, restored] = JSON.parse(line.toString()) as [TreePath, TreePath];
    return found === target ? restored : undefined;
  }

  async close(): Promise<void> {
    await this.log?.remove();
  }
}

const keyOf = (path: TreePath) => hash('sha256', path);
