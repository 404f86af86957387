import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckResult } from '../../src/check/check.ts';
import { canonicalJson } from '../../src/store/objects/manifest.ts';
import { holder, ok, Stack, type StackOptions, sh } from '../harness/stack.ts';

const KEY = 'a-key-that-only-this-test-knows';

/** An attacker who can write to the destination, but has no key. */
describe('signed snapshots', () => {
  let stack: Stack;
  const options = (env: Record<string, string>): StackOptions => ({
    services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: {} },
    receiver: false,
    env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *', ...env },
  });
  const apply = async (env: Record<string, string>) => {
    await stack.write(options(env));
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
  };
  const snapshots = () => path.join(stack.directory, 'backups', stack.project, 'snapshots');
  const manifest = (id: string) => path.join(snapshots(), id, 'manifest.json');
  const media = () => stack.exec('web', ['sh', '-c', 'cat /media/*']);
  const check = async () => {
    const { code, stdout } = await stack.lifeboat('check', '--json');
    const { manifests, signatures } = JSON.parse(stdout) as CheckResult;
    return { code, codes: manifests.map(({ error }) => error.code), signatures };
  };
  const restore = async (...args: string[]) => {
    const { code, stdout } = await stack.lifeboat('restore', ...args, '--yes', '--json');
    return { code, error: (JSON.parse(stdout) as { error?: { code: string } }).error?.code };
  };
  let before = '';
  let first = '';
  let second = '';

  beforeAll(async () => {
    stack = await Stack.start(options({}));
    await stack.exec('web', ['sh', '-c', 'for i in 1 2 3; do head -c 200000 /dev/urandom > /media/$i; done']);
    before = (await stack.backup()).report.snapshot as string;
    await apply({ LIFEBOAT_SIGNING_KEY: KEY });
  });
  afterAll(() => stack?.destroy());

  it('are created from the first run with a key on, which builds on no unsigned snapshot', async () => {
    const run = await stack.backup();
    expect(run.code).toBe(0);
    expect(run.report.results[0]?.newFiles).toBe(3);
    first = run.report.snapshot as string;
    const again = await stack.backup();
    expect(again.report.results[0]?.newFiles).toBe(0);
    second = again.report.snapshot as string;
    expect(await check()).toMatchObject({ code: 0, codes: [], signatures: { signed: 2, unsigned: [before] } });
    const written = await ok('grep', ['--recursive', '--files-with-matches', KEY, stack.directory]).catch(() => '');
    expect(written.trim()).toBe(path.join(stack.directory, 'compose.yaml'));
  });

  it('that are forged, changed or removed are refused before the volume changes', async () => {
    const content = await media();
    const bytes = await readFile(manifest(second));
    const document = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;

    await writeFile(manifest(second), `${canonicalJson({ ...document, agentVersion: '9.9.9' })}\n`);
    expect(await restore('latest', 'web.media')).toEqual({ code: 1, error: 'SIGNATURE_WRONG' });
    expect(await restore(second, 'web.media')).toEqual({ code: 1, error: 'SIGNATURE_WRONG' });
    expect(await check()).toMatchObject({ code: 3, codes: ['SIGNATURE_WRONG'] });
    expect((await stack.lifeboat('prune')).code).toBe(1);

    const { signature: _, ...unsigned } = document;
    await writeFile(manifest(second), `${canonicalJson(unsigned)}\n`);
    expect(await restore('latest', 'web.media')).toEqual({ code: 1, error: 'SIGNATURE_MISSING' });
    await writeFile(manifest(second), bytes);

    const forged = `${second.slice(0, 9)}235959Z-abcdef`;
    await mkdir(path.dirname(manifest(forged)));
    await writeFile(manifest(forged), bytes);
    expect(await restore(forged, 'web.media')).toEqual({ code: 1, error: 'SIGNATURE_WRONG' });
    await rm(path.dirname(manifest(forged)), { recursive: true });

    await rm(manifest(first));
    // The snapshot that the agent has seen, and the one that names it.
    expect(await check()).toMatchObject({ code: 3, codes: ['CHAIN_BROKEN', 'CHAIN_BROKEN'] });
    expect(await restore(before, 'web.media')).toEqual({ code: 1, error: 'SIGNATURE_MISSING' });
    expect(await media()).toBe(content);
  });

  it('are restored if they are valid; unsigned ones only if the user accepts that', async () => {
    const content = await media();
    await stack.exec('web', ['sh', '-c', 'rm /media/*']);
    expect(await restore('latest', 'web.media')).toEqual({ code: 0, error: undefined });
    expect(await media()).toBe(content);
    await stack.exec('web', ['sh', '-c', 'rm /media/*; echo x > /media/x']);
    expect(await restore(before, 'web.media', '--unsigned')).toEqual({ code: 0, error: undefined });
    expect(await media()).toBe(content);
  });

  it('stay signed: without the key no snapshot is added, and check says that it verified no signature', async () => {
    await apply({});
    const { code, report } = await stack.backup();
    expect({ code, error: report.error?.code }).toEqual({ code: 1, error: 'SIGNATURE_KEY' });
    const { stdout } = await sh('docker', ['compose', 'exec', '-T', 'lifeboat', 'lifeboat', 'check'], {
      cwd: stack.directory,
    });
    expect(stdout).toContain('not checked (LIFEBOAT_SIGNING_KEY is not set)');
    const read = await stack.lifeboat('restore', 'latest', 'web.media', '--dry-run');
    expect([read.code, read.stdout + read.stderr]).toEqual([0, expect.stringContaining('nothing was verified')]);
  });

  it('are sound if their key was replaced: every command says which key is missing, and none advises to give data up', async () => {
    await apply({ LIFEBOAT_SIGNING_KEY: KEY });
    expect((await stack.lifeboat('accept', 'destination')).code).toBe(0);
    await apply({ LIFEBOAT_SIGNING_KEY: 'another-key-that-nobody-knows' });
    const advice = /Add that key to LIFEBOAT_SIGNING_KEY on a further line/;
    const commands = [['plan'], ['status'], ['check'], ['restore', 'latest', 'web.media', '--dry-run'], ['prune']];
    for (const args of commands) {
      const ran = await stack.lifeboat(...args);
      const said = ran.stdout + ran.stderr;
      expect(ran.code, said).not.toBe(0);
      expect(said, args.join(' ')).toMatch(advice);
      expect(said, args.join(' ')).toMatch(/SIGNATURE_KEY/);
      expect(said, args.join(' ')).not.toMatch(
        /Back up now|damaged content|Content that only|OBJECT_DAMAGED|[Dd]elete (what|the)|A copy may/,
      );
    }
    await apply({ LIFEBOAT_SIGNING_KEY: `another-key-that-nobody-knows\n${KEY}` });
    expect(await restore('latest', 'web.media')).toEqual({ code: 0, error: undefined });
  });

  it('are missed if the destination is emptied: no command takes it for a new one', async () => {
    await stack.exec('lifeboat', ['sh', '-c', 'rm -r /backups/*']);
    for (const [command, code] of [
      ['backup', 1],
      ['check', 1],
      ['status', 1],
      ['plan', 3],
    ] as const) {
      const ran = await stack.lifeboat(command);
      expect({ command, code: ran.code, said: ran.stdout + ran.stderr }).toEqual({
        ...{ command, code, said: expect.stringContaining('/backups is empty but should hold repository') },
      });
    }
    expect(await stack.objects()).toEqual([]);
  });
});
