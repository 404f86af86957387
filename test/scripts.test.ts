import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { documents } from './harness/documents.ts';

/** The scripts that a person or a workflow runs in a clone. */

const ROOT = path.join(import.meta.dirname, '..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');

describe('scripts/release-notes.sh', () => {
  const notes = (version: string, env: Record<string, string> = {}) =>
    spawnSync(path.join(ROOT, 'scripts/release-notes.sh'), [version], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH ?? '', ...env },
    });
  const { version } = JSON.parse(read('package.json')) as { version: string };

  test('prints the section of a version', () => {
    const heading = read('CHANGELOG.md')
      .split('\n')
      .find((line) => line.startsWith(`## [${version}] - `));
    expect(heading?.split(' - ')[1]).toMatch(/^\d{4}-\d\d-\d\d$/);
    const { status, stdout } = notes(version);
    expect(status).toBe(0);
    expect(stdout).toContain('### Added');
    expect(stdout).not.toMatch(/^## |^\[/m);
    expect(stdout.match(/<\/?details>/g)).toEqual(['<details>', '</details>']);
  });

  test('each heading in brackets leads to its version', () => {
    const changelog = read('CHANGELOG.md');
    const headings = [...changelog.matchAll(/^## \[(.+?)\]/gm)].map(([, name]) => name);
    expect(headings).toContain(version);
    expect([...changelog.matchAll(/^\[(.+?)\]: https:/gm)].map(([, name]) => name)).toEqual(headings);
  });

  test('makes links absolute for a release, which has no files next to it', () => {
    const links = (text: string) => [...text.matchAll(/\]\(([^)]*)\)/g)].map(([, link = '']) => link);
    const { status, stdout } = notes(version, { GITHUB_REPOSITORY: 'acme/lifeboat' });
    expect(status).toBe(0);
    const found = links(stdout);
    expect(found).toHaveLength(links(notes(version).stdout).length);
    expect(found).toContain(`https://github.com/acme/lifeboat/blob/v${version}/docs/copies.md`);
    expect(found.filter((link) => !link.startsWith('https://'))).toEqual([]);
  });

  test('fails for a version without a section', () => {
    expect(notes('9.9')).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('no section') });
    // A dot is no wildcard.
    expect(notes('Unrel.ased').status).toBe(1);
  });
});

describe('scripts/set-owner.sh', () => {
  test('what a person pastes has no variable of the shell or of Compose for the owner', () => {
    expect(['package.json', ...documents()].filter((name) => /[$][{]OWNER[}]/.test(read(name)))).toEqual([]);
    expect(read('README.md')).toContain('Replace `OWNER` by the owner');
  });

  test('names the owner wherever a file leaves it open', async () => {
    const files = ['package.json', ...documents()];
    const copy = await mkdtemp(path.join(tmpdir(), 'lifeboat-owner-'));
    for (const name of [...files, 'scripts/set-owner.sh']) await cp(path.join(ROOT, name), path.join(copy, name));
    const sql = 'ALTER TABLE t OWNER TO app; ALTER TABLE "github.com/x" OWNER TO "ghcr.io"';
    await writeFile(path.join(copy, 'docs/sql.md'), sql);
    const { status, stderr } = spawnSync(path.join(copy, 'scripts/set-owner.sh'), ['Acme'], { encoding: 'utf8' });
    const now = files.map((name) => readFileSync(path.join(copy, name), 'utf8'));
    expect(await readFile(path.join(copy, 'docs/sql.md'), 'utf8')).toBe(sql);
    await rm(copy, { recursive: true });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(files.filter((_, i) => /\bOWNER\/|Replace `?OWNER|\$\{OWNER\}|<owner>/.test(now[i] ?? ''))).toEqual([]);
    const all = now.join('\n');
    expect(all).toContain('https://github.com/Acme/lifeboat');
    // The name of an image has lower-case letters only.
    expect(all).toContain('ghcr.io/acme/lifeboat');
    expect(all).not.toContain('ghcr.io/Acme');
  });
});

describe('scripts/run.sh', () => {
  const lock = (packages: Record<string, object>) => JSON.stringify({ packages });
  const a1 = { version: '1.0.0', integrity: 'sha512-a' };
  const other = { version: '1.0.0', integrity: 'sha512-o', optional: true };

  /** What run.sh does in a clone with these files, if it may not install anything. */
  async function inClone(wanted: string, installed: string | undefined) {
    const clone = await mkdtemp(path.join(tmpdir(), 'lifeboat-clone-'));
    await cp(path.join(ROOT, 'scripts'), path.join(clone, 'scripts'), { recursive: true });
    await mkdir(path.join(clone, 'node_modules/.bin'), { recursive: true });
    await symlink(process.execPath, path.join(clone, 'node_modules/.bin/node'));
    await writeFile(path.join(clone, 'package-lock.json'), wanted);
    if (installed !== undefined) await writeFile(path.join(clone, 'node_modules/.package-lock.json'), installed);
    const env = { PATH: process.env.PATH ?? '', LIFEBOAT_TEST_NO_INSTALL: '1' };
    const { status, stderr } = spawnSync('bash', [path.join(clone, 'scripts/run.sh'), 'nothing'], {
      encoding: 'utf8',
      env,
    });
    await rm(clone, { recursive: true });
    if (status === 2) return stderr.includes('no such thing: nothing') ? 'goes on' : stderr;
    return status === 1 && stderr.includes('run npm ci') ? 'asks for npm ci' : stderr;
  }

  test.each([
    ['after npm ci', lock({ a: a1 }), lock({ a: a1 }), 'goes on'],
    ['without packages for other platforms', lock({ a: a1, other }), lock({ a: a1 }), 'goes on'],
    ['with an old version', lock({ a: a1 }), lock({ a: { ...a1, version: '0.9.0' } }), 'asks for npm ci'],
    ['with another content', lock({ a: a1 }), lock({ a: { ...a1, integrity: 'sha512-b' } }), 'asks for npm ci'],
    ['without a package', lock({ a: a1 }), lock({}), 'asks for npm ci'],
    ['with a package too many', lock({}), lock({ a: a1 }), 'asks for npm ci'],
    ['with a list that is cut off', lock({ a: a1 }), '{"packages": {', 'asks for npm ci'],
    ['without node_modules', lock({ a: a1 }), undefined, 'asks for npm ci'],
  ])('%s', async (_name, wanted, installed, outcome) => {
    expect(await inClone(wanted, installed)).toBe(outcome);
  });
});

// CI always has it. On a machine of a contributor, `npm test` as root installs it.
test.skipIf(spawnSync('shellcheck', ['--version']).error !== undefined)('no script has a mistake', () => {
  const scripts = [
    ...['.ci/run', 'docker/lifeboat', 'docker/stand-ins/base/bootstrap.sh'],
    ...readdirSync(path.join(ROOT, 'scripts'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.sh'))
      .map((name) => `scripts/${name}`),
  ];
  const { status, stdout } = spawnSync('shellcheck', ['--external-sources', ...scripts], {
    encoding: 'utf8',
    cwd: ROOT,
  });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

describe('the set-up of a machine', () => {
  const setUp = (env: Record<string, string>, ...words: string[]) =>
    spawnSync('bash', [path.join(ROOT, 'scripts/setup.sh'), ...words], { encoding: 'utf8', env: { ...env } });

  test('says what a machine lacks, and installs nothing if that is forbidden', async () => {
    // A machine with the usual programs, without those that the tests need.
    const bin = await mkdtemp(path.join(tmpdir(), 'lifeboat-bin-'));
    for (const program of ['bash', 'dirname', 'mktemp', 'rm']) {
      const { stdout } = spawnSync('which', [program], { encoding: 'utf8' });
      await symlink(stdout.trim(), path.join(bin, program));
    }
    const { status, stderr } = setUp({ PATH: bin, LIFEBOAT_TEST_NO_INSTALL: '1' }, 'tools', 'shells');
    await rm(bin, { recursive: true });
    expect(status).toBe(1);
    for (const name of ['zstd', 'age', 'gnupg', 'jq', 'fish']) expect(stderr).toContain(`Debian package ${name}\n`);
    expect(stderr).toMatch(/nothing is installed, because LIFEBOAT_TEST_NO_INSTALL is set\n$/);
  });
});
