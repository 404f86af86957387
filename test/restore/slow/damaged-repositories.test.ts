import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ErrorCode, LifeboatError } from '../../../src/base/errors.ts';
import { findSnapshot } from '../../../src/restore/find.ts';
import { readIndexFileLines } from '../../../src/store/filesystem/read-index.ts';
import { readPacks } from '../../../src/store/repository/pack-lists.ts';
import { times } from '../../harness/times.ts';
import { ageKey, SealedBench, SOURCE } from '../../run/sealed-bench.ts';
import { noise } from '../../store/chunks/chunks.ts';
import { describeTree } from '../../store/helpers.ts';

/** What a restore may answer to damage. Anything else is a fault of the program. */
const CODES = new Set<ErrorCode>([
  'OBJECT_DAMAGED',
  'OBJECT_MISSING',
  'SIGNATURE_WRONG',
  'SIGNATURE_MISSING',
  'SIGNATURE_KEY',
  'CHAIN_BROKEN',
  'SNAPSHOT_UNKNOWN',
  'DEST_FOREIGN',
  'KEY_WRONG',
  'KEY_MISSING',
  'FORMAT_UNSUPPORTED',
]);

const MIB = 1024 * 1024;

/** A damage to one object, or to two. Positions are shares of the object's size. */
type Damage =
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'cut' | 'zero'; at: number }
  | { kind: 'append'; bytes: number }
  | { kind: 'delete' }
  | { kind: 'swap' | 'replay'; other: number };

const share = fc.noBias(fc.nat(999_999)).map((n) => n / 1_000_000);
const damages: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: share, bit: fc.nat(7) }),
  fc.record({ kind: fc.constantFrom('cut' as const, 'zero' as const), at: share }),
  fc.record({ kind: fc.constant('append' as const), bytes: fc.integer({ min: 1, max: 1000 }) }),
  fc.record({ kind: fc.constant('delete' as const) }),
  fc.record({ kind: fc.constantFrom('swap' as const, 'replay' as const), other: share }),
);

/**
 * A signed repository with three snapshots of one volume, which shares content between them: small files, and a file
 * in parts of which a piece changes each day.
 */
class DamagedBench {
  readonly sealed = new SealedBench();
  readonly keys: Parameters<SealedBench['run']>[0];
  /** the tree of each snapshot, oldest first */
  readonly trees: ReturnType<typeof describeTree>[] = [];
  /** keys of the objects that are damaged at the moment */
  private readonly damaged: string[] = [];
  private readonly pristine = path.join(this.sealed.tree, '../pristine');
  private readonly present = path.join(this.sealed.tree, '../present');

  constructor(keys: DamagedBench['keys']) {
    this.keys = keys;
  }

  get root(): string {
    return this.sealed.bench.destination.name;
  }

  async fill(): Promise<void> {
    const { tree } = this.sealed;
    for (const name of readdirSync(tree)) rmSync(path.join(tree, name));
    writeFileSync(path.join(tree, 'always'), noise(20_000, 'always'));
    const content = noise(1.5 * MIB, 'content');
    for (const day of [1, 2, 3]) {
      noise(5000, `day ${day}`).copy(content, day * 350_000);
      writeFileSync(path.join(tree, 'parts'), content);
      writeFileSync(path.join(tree, `day-${day}`), `day ${day}`);
      await this.sealed.run(this.keys);
      this.trees.push(describeVolume(tree));
    }
    writeFileSync(path.join(tree, 'since'), 'not in any snapshot');
    mkdirSync(this.present);
    copyExactly(tree, this.present);
    cpSync(this.root, this.pristine, { recursive: true });
  }

  /** Returns the names of the objects. */
  objects(): string[] {
    return readdirSync(this.pristine, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => path.relative(this.pristine, path.join(parentPath, name)))
      .sort();
  }

  /** Returns whether the newest snapshot has a manifest, whatever it holds. */
  hasNewest(): boolean {
    const newest = this.objects().findLast((key) => key.endsWith('/manifest.json')) as string;
    return existsSync(path.join(this.root, newest));
  }

  /** Undoes the damage. */
  repair(): void {
    for (const key of this.damaged.splice(0)) cpSync(path.join(this.pristine, key), path.join(this.root, key));
  }

  /** Puts the volume into the state before the first restore. */
  resetVolume(): void {
    const { tree } = this.sealed;
    for (const name of readdirSync(tree)) rmSync(path.join(tree, name), { recursive: true });
    copyExactly(this.present, tree);
  }

  damage(key: string, damage: Damage): void {
    const bytes = readFileSync(path.join(this.pristine, key));
    this.replace(key, damage.kind === 'delete' ? undefined : this.changed(bytes, damage));
    if (damage.kind === 'swap') this.replace(this.objectAt(damage.other), bytes);
  }

  /** Returns the object at a share of their list. */
  objectAt(at: number): string {
    const objects = this.objects();
    return objects[Math.floor(at * objects.length)] as string;
  }

  private changed(bytes: Buffer, damage: Exclude<Damage, { kind: 'delete' }>): Buffer {
    if ('bytes' in damage) return Buffer.concat([bytes, noise(damage.bytes, 'appended')]);
    if ('other' in damage) return readFileSync(path.join(this.pristine, this.objectAt(damage.other)));
    const at = Math.floor(damage.at * bytes.length);
    if (damage.kind === 'cut') return bytes.subarray(0, at);
    if ('bit' in damage) bytes[at]! ^= 1 << damage.bit;
    else bytes.fill(0, at, Math.min(at + 4096, bytes.length));
    return bytes;
  }

  /** `bytes`: nothing removes the object. */
  private replace(key: string, bytes: Buffer | undefined): void {
    this.damaged.push(key);
    rmSync(path.join(this.root, key), { force: true });
    if (bytes) writeFileSync(path.join(this.root, key), bytes);
  }

  /** Restores the newest snapshot to a new directory, without the steps around it. Returns its content. */
  async read(): Promise<ReturnType<typeof describeTree>> {
    const { bench } = this.sealed;
    const repository = await this.sealed.open(this.keys);
    const { entry } = await findSnapshot(repository, { snapshot: 'latest', source: SOURCE, unsigned: false });
    const indexPath = path.join(bench.spool, 'index-read');
    try {
      await repository.fetchIndex(entry.index!, indexPath);
      await repository.readFacts(entry.facts!);
      const how = { index: readIndexFileLines(indexPath), keys: this.keys };
      const { target } = await bench.extract({ packs: await readPacks(repository, entry) }, how);
      const found = describeVolume(target);
      rmSync(path.dirname(target), { recursive: true });
      return found;
    } finally {
      rmSync(indexPath, { force: true });
    }
  }
}

/** Copies the content of a directory, with times to the nanosecond. */
function copyExactly(from: string, to: string): void {
  execFileSync('cp', ['--archive', '--', `${from}/.`, to]);
}

/** Returns the content of the volume. Leaves out its own time, and what a restore has put aside. */
function describeVolume(tree: string): ReturnType<typeof describeTree> {
  return new Map([...describeTree(tree)].filter(([name]) => name !== '' && !name.startsWith('.lifeboat-before-')));
}

const { identity, recipient } = ageKey();
const sealedKeys = { ageRecipients: [recipient], ageIdentity: identity };
const cases = [
  { runs: times(200, 900), name: 'read in clear', keys: {}, restores: false },
  { runs: times(30, 60), name: 'restored in clear', keys: {}, restores: true },
  { runs: times(25, 40), name: 'read with a key', keys: sealedKeys, restores: false },
];
const benches = [new DamagedBench({}), new DamagedBench(sealedKeys)] as const;
beforeAll(() => Promise.all(benches.map((bench) => bench.fill())));
afterAll(() => {
  for (const { sealed } of benches) sealed.bench.remove();
});

test.each(cases)(
  '$runs damaged repositories, $name: the right content or nothing',
  { timeout: 1_200_000 },
  async ({ runs, keys, restores }) => {
    const bench = benches[keys === sealedKeys ? 1 : 0];
    const { tree } = bench.sealed;
    const present = describeVolume(tree);
    let refused = 0;
    const property = fc.asyncProperty(share, damages, async (which, damage) => {
      bench.damage(bench.objectAt(which), damage);
      // An agent that remembers nothing cannot know of a snapshot whose manifest was removed.
      const newest = bench.trees.at(bench.hasNewest() ? -1 : -2);
      const outcome = await (restores ? bench.sealed.restore(bench.keys) : bench.read()).catch(
        (error: unknown) => error,
      );
      bench.repair();
      if (outcome instanceof Error) {
        if (!(outcome instanceof LifeboatError) || !CODES.has(outcome.code)) throw outcome;
        refused++;
        if (restores) expect(describeVolume(tree)).toEqual(present);
      } else if (restores) {
        expect(describeVolume(tree)).toEqual(newest);
        bench.resetVolume();
      } else expect(outcome).toEqual(newest);
    });
    await fc.assert(property, { numRuns: runs, endOnFailure: true });
    // About a third of the damages concern the newest snapshot. Far fewer refusals mean that the damage is not read.
    expect(refused).toBeGreaterThan(runs / 25);
  },
);
