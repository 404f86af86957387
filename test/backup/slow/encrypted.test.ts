import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RunContext } from '../../../src/backup/context.ts';
import { factsReader, previousTree } from '../../../src/backup/previous-tree.ts';
import { silentLog } from '../../../src/base/log.ts';
import { check } from '../../../src/check/check.ts';
import type { SealKeys } from '../../../src/plan/seal-keys.ts';
import { openState } from '../../../src/run/state.ts';
import { renewalRule } from '../../../src/store/content/repack.ts';
import { type ManifestSource, withKeyId } from '../../../src/store/objects/manifest.ts';
import type { PackRef } from '../../../src/store/packs/pack-stream.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import type { Repository } from '../../../src/store/repository/repository.ts';
import { keyId } from '../../../src/store/seal/encryption.ts';
import { checkKeys } from '../../../src/store/seal/seal.ts';
import { type Bench, createBench } from '../../store/helpers.ts';

const ID = '20261120T030000Z-4f1c9a';
const SOURCE = 'web.media';
const [one, two] = [ageKey(), ageKey()];

function ageKey(): { identity: string; recipient: string } {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return { identity, recipient: execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim() };
}

const publicOnly: SealKeys = { ageRecipients: [one.recipient] };
const whole: SealKeys = { ...publicOnly, ageIdentity: one.identity };

let bench: Bench;
let repository: Repository;
beforeEach(async () => {
  bench = createBench();
  repository = await openRepository(bench.destination, { project: 'shop', create: true, keys: publicOnly });
});
afterEach(() => bench.remove());

const withKeys = (keys: SealKeys) => openRepository(bench.destination, { project: 'shop', create: false, keys });

/** `refs`: the packs of the entry. */
type Committed = ManifestSource & { refs: PackRef[] };

/** Stores the tree and commits it as the only source of a snapshot. */
async function commit(): Promise<Committed> {
  const { packs, files, bytes, newBytes, newFiles } = await bench.store({ keys: publicOnly });
  const facts = await repository.putFacts(ID, SOURCE, { kind: 'volume', note: 'canary' });
  const index = await repository.putIndex(ID, SOURCE, bench.index);
  const counts = { files, bytes, newBytes, newFiles };
  const entry = { kind: 'volume', status: 'ok', index, facts, ...counts } as const;
  const shared = { ...entry, summary: '', warnings: [], skipped: {} };
  const list = await repository.putPacks({ id: ID, source: SOURCE, packs });
  const source: ManifestSource = { ...shared, ...(list ? { packs: list } : {}) };
  await repository.commit({
    ...{ format: 1, id: ID, project: 'shop', sequence: 1, previous: null, trigger: 'manual', agentVersion: '0' },
    ...{ status: 'ok', start: '2026-11-20T03:00:00.000Z', end: '2026-11-20T03:00:01.000Z' },
    sources: { [SOURCE]: source },
  } as Parameters<Repository['commit']>[0]);
  return { ...source, refs: packs.toSorted((a, b) => (a.id < b.id ? -1 : 1)) };
}

function fill(): void {
  writeFileSync(path.join(bench.tree, 'canary-name'), 'canary content '.repeat(5000));
  writeFileSync(path.join(bench.tree, 'large'), Buffer.alloc(2_000_000, 'canary'));
}

function objects(): { key: string; bytes: Buffer }[] {
  const root = bench.destination.name;
  const names = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return names.map(({ parentPath, name }) => {
    const file = path.join(parentPath, name);
    return { key: path.relative(root, file), bytes: readFileSync(file) };
  });
}

describe('with keys', () => {
  test('only manifests, lists of packs and lifeboat.json are unencrypted', async () => {
    fill();
    await commit();
    const all = objects();
    const clear = all.filter(({ bytes }) => bytes.subarray(0, 21).toString() !== 'age-encryption.org/v1');
    expect(clear.map(({ key }) => key).sort()).toEqual([
      'lifeboat.json',
      `shop/snapshots/${ID}/manifest.json`,
      `shop/snapshots/${ID}/${SOURCE}.packs.ndjson.zst`,
    ]);
    expect(all.length).toBeGreaterThan(4);
    for (const { key, bytes } of all) expect(key + bytes.toString('latin1')).not.toContain('canary');
  });

  test('the identity decrypts everything, and its absence is reported', async () => {
    fill();
    const { index, packs: list, refs: packs } = await commit();
    for (const [keys, code] of [
      [publicOnly, 'KEY_MISSING'],
      [{ ageRecipients: [one.recipient], ageIdentity: two.identity }, 'KEY_WRONG'],
    ] as const) {
      const id = keyId(whole);
      const needed = code === 'KEY_WRONG' ? { message: expect.stringContaining(`it needs key ${id}`) } : {};
      const failure = { code, ...needed };
      const ref = withKeyId(index!, { packs: list });
      const repository = await withKeys(keys);
      await expect(repository.fetchIndex(ref, path.join(bench.spool, 'i'))).rejects.toMatchObject(failure);
      await expect(bench.extract({ packs }, { keys })).rejects.toMatchObject(failure);
    }
    const { target } = await bench.extract({ packs }, { keys: whole });
    for (const name of ['canary-name', 'large'])
      expect(readFileSync(path.join(target, name)).equals(readFileSync(path.join(bench.tree, name)))).toBe(true);
  });

  test('a changed header counts as damage, not as a wrong key', async () => {
    fill();
    const { facts, refs: packs } = await commit();
    for (const { key } of [facts!, ...packs]) {
      const file = path.join(bench.destination.name, key);
      const bytes = readFileSync(file);
      // Within the stanza that wraps the file key.
      const at = bytes.indexOf('\n', 40) + 20;
      bytes[at] = bytes[at] === 65 ? 66 : 65;
      rmSync(file);
      writeFileSync(file, bytes);
    }
    const opened = await withKeys(whole);
    await expect(opened.readFacts(facts!)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await expect(bench.extract({ packs }, { keys: whole })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('check needs no key, and reports which keys the snapshots need', async () => {
    fill();
    const { refs: packs } = await commit();
    const options = { readData: 1, spool: bench.spool, signal: AbortSignal.timeout(100_000) };
    const result = await check(repository, options);
    expect(result).toMatchObject({ damaged: [], usable: true });
    expect(result.keys).toEqual([{ encryption: 'age', id: keyId(publicOnly), snapshots: [ID] }]);
    rmSync(path.join(bench.destination.name, packs[0]!.key));
    const damaged = await check(repository, options);
    expect(damaged).toMatchObject({ affected: [{ extent: 'part', unknown: true }], usable: true });
    expect(await check(await withKeys(whole), options)).toMatchObject({ affected: [{ extent: 'part', files: 1 }] });
  });

  test('invalid recipients are refused', async () => {
    await expect(checkKeys(publicOnly)).resolves.toBeUndefined();
    for (const alone of [{ ageIdentity: one.identity }, { gpgPrivateKey: 'x' }])
      await expect(checkKeys(alone)).rejects.toMatchObject({
        message: expect.stringContaining('no key to encrypt with'),
      });
    const bad = `${one.recipient.slice(0, -1)}${one.recipient.endsWith('x') ? 'y' : 'x'}`;
    await expect(checkKeys({ ageRecipients: [bad] })).rejects.toMatchObject({ code: 'SETTING_INVALID' });
  });
});

describe('the index that the next run builds on', () => {
  const state = () => openState(mkdtempSync(path.join(bench.spool, 'state-')));
  const memory = (keys: SealKeys, remembered = state()) => ({
    renewal: renewalRule(0.05),
    state: remembered,
    context: {
      snapshots: [],
      repository: {
        ...repository,
        keys,
        fetchIndex: repository.fetchIndex.bind(repository),
        readFacts: repository.readFacts.bind(repository),
        readPackList: repository.readPackList.bind(repository),
      },
      log: silentLog,
      run: { trigger: 'manual' },
      signal: AbortSignal.timeout(100_000),
    } as unknown as RunContext,
  });
  const last = (entry: ManifestSource) => ({ snapshot: ID, at: '2026-11-20T03:00:00.000Z', entry });

  test('is the cached one if no key can read the stored one', async () => {
    fill();
    const entry = await commit();
    const lost = await previousTree(memory(publicOnly), SOURCE, last(entry), bench.spool);
    expect(lost.tree).toBeUndefined();
    expect(lost.warnings).toEqual([expect.stringContaining('everything is stored again')]);
    expect(lost.warnings[0]).toContain('KEY_MISSING');
    const remembered = state();
    await remembered.cacheIndex(SOURCE, entry.index!.sha256, bench.index);
    await remembered.cacheFacts(SOURCE, entry.facts!.sha256, { kind: 'volume' });
    const known = memory(publicOnly, remembered);
    const { tree, warnings } = await previousTree(known, SOURCE, last(entry), bench.spool);
    expect({ warnings, packs: tree?.packs }).toEqual({ warnings: [], packs: entry.refs });
    expect(await factsReader(known, SOURCE)(entry.facts!)).toEqual({ kind: 'volume' });
    const other = { ...entry.facts!, sha256: '0'.repeat(64) };
    await expect(factsReader(known, SOURCE)(other)).rejects.toMatchObject({ code: 'KEY_MISSING' });
    // With it, the next run stores no content again.
    const again = await bench.store({ keys: publicOnly, previous: tree!, indexPath: `${bench.index}-2` });
    expect(again).toMatchObject({ newFiles: 0, newBytes: 0 });
  });

  test('leaves out packs of other keys, with a warning', async () => {
    fill();
    const entry = await commit();
    const remembered = state();
    await remembered.cacheIndex(SOURCE, entry.index!.sha256, bench.index);
    for (const keys of [{}, { ageRecipients: [one.recipient, two.recipient] }]) {
      const { tree, warnings } = await previousTree(memory(keys, remembered), SOURCE, last(entry), bench.spool);
      expect({ warnings, packs: tree?.packs }).toEqual({
        warnings: [expect.stringContaining('the encryption keys are not those of the last snapshot')],
        packs: [],
      });
    }
  });
});
