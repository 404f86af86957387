import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ERROR_CODES } from '../src/base/errors.ts';
import { silentLog } from '../src/base/log.ts';
import { createEngine } from '../src/docker/engine.ts';
import { LABELS } from '../src/plan/labels.ts';
import { SETTINGS } from '../src/plan/setting-table.ts';
import { startStubEngine } from './harness/stub-engine.ts';

/** What people read says what the code does. docs/labels.md and docs/settings.md have a test of their own in plan/. */

const ROOT = path.join(import.meta.dirname, '..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');
const pages = [
  ...readdirSync(ROOT).filter((name) => /\.(md|yml)$/.test(name)),
  ...readdirSync(path.join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const all = (text: string, pattern: RegExp) => [...new Set([...text.matchAll(pattern)].map((match) => match[1] ?? ''))];

test('prose is wrapped at 120 columns', () => {
  const wide = pages
    .filter((name) => name.endsWith('.md'))
    .flatMap((name) => {
      let isCode = false;
      return read(name)
        .split('\n')
        .flatMap((line, i) => {
          if (line.startsWith('```')) isCode = !isCode;
          // Tables, examples and definitions of links cannot be wrapped.
          const isFixed = isCode || /^( {4}|\||\[)/.test(line);
          return !isFixed && [...line].length > 120 ? [`${name}:${i + 1}`] : [];
        });
    });
  expect(wide).toEqual([]);
});

describe('docs/errors.md', () => {
  test('has every code once, and no other', () => {
    const rows = [...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code = '']) => code);
    expect(rows.toSorted()).toEqual(Object.keys(ERROR_CODES).toSorted());
  });

  test('every code is one that the code can end with', () => {
    const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && name !== 'base/errors.ts')
      .map((name) => read(`src/${name}`))
      .join('\n');
    expect(Object.keys(ERROR_CODES).filter((code) => !sources.includes(`'${code}'`))).toEqual([]);
  });
});

describe('every page', () => {
  test.each(pages)('%s names only settings and labels that there are', (page) => {
    const text = read(page);
    const settings = all(text, /\b(LIFEBOAT_[A-Z_]+[A-Z])\b/g).map((name) => name.replace(/_FILE$/, ''));
    // The tests of this project have variables of their own.
    const ours = settings.filter((name) => !name.startsWith('LIFEBOAT_TEST_'));
    expect(ours.filter((name) => !(name in SETTINGS))).toEqual([]);
    const labels = all(text, /^\s*(?:- )?(lifeboat\.[\w.*-]+?)(?:: |=)/gm);
    const rows = Object.keys(LABELS);
    const isLabel = (name: string) =>
      rows.some((row) => row === name || (row.endsWith('.*') && name.startsWith(row.slice(0, -1))));
    expect(labels.filter((name) => !isLabel(name))).toEqual([]);
  });

  test.each(pages)('%s links to what there is', (page) => {
    const broken = all(read(page), /\]\((?!https?:)([^)\s]+)\)/g).filter((link) => {
      const [file = '', anchor] = link.split('#');
      const target = file === '' ? page : path.join(path.dirname(page), file);
      if (!existsSync(path.join(ROOT, target))) return true;
      return anchor !== undefined && !anchors(read(target)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });

  test.each(pages)('%s names only files that there are', (page) => {
    const files = all(read(page), /`((?:src|test|docs|docker|scripts|bench)\/[\w./-]*)`/g);
    expect(files.filter((file) => !existsSync(path.join(ROOT, file)))).toEqual([]);
  });

  test.each(pages)('%s speaks of error codes that there are', (page) => {
    const codes = all(read(page), /\(([A-Z]+_[A-Z_]+)\)/g);
    if (page === 'docs/troubleshooting.md') codes.push(...all(read(page), /`([A-Z]+_[A-Z_]+)`/g).filter(isNoSetting));
    expect(codes.filter((code) => !(code in ERROR_CODES))).toEqual([]);
  });
});

test('docs/settings.md names each label that replaces a setting', () => {
  const labels = Object.keys(LABELS).filter((label) => label.toUpperCase().replace('.', '_') in SETTINGS);
  expect(labels).toEqual(expect.arrayContaining(['lifeboat.schedule', 'lifeboat.keep', 'lifeboat.rpo']));
  const [, paragraph = ''] = /\*\*Labels\.\*\*(.*?)\n\n/s.exec(read('docs/settings.md')) ?? [];
  expect(labels.filter((label) => !paragraph.includes(`\`${label}\``))).toEqual([]);
});

test('the data that a restore replaced has one name, in documents and messages', () => {
  const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/${name}`);
  expect([...pages, ...sources].filter((name) => /(?:put-aside|former) data\b/i.test(read(name)))).toEqual([]);
});

test('troubleshooting.md has every code that the runbook explains', () => {
  const codes = all(read('docs/runbook.md'), /[`(]([A-Z]+(?:_[A-Z]+)+)[`),]/g).filter((code) => code in ERROR_CODES);
  expect(codes.length).toBeGreaterThan(20);
  const page = read('docs/troubleshooting.md');
  expect(codes.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
});

test.each(pages)('%s declares the volumes of its complete examples', (page) => {
  for (const yaml of all(read(page), /^```yaml\n(services:\n[\s\S]*?)^```$/gm)) {
    const { services, volumes } = parse(yaml, { logLevel: 'silent' }) as {
      services: Record<string, { volumes?: string[] }>;
      volumes?: object;
    };
    // An example without a list of volumes is a part of a file.
    if (volumes === undefined) continue;
    const named = Object.values(services).flatMap(({ volumes: own = [] }) => own.map((one) => one.split(':')[0] ?? ''));
    const missing = named.filter((name) => /^[a-z]/.test(name) && !(name in (volumes ?? {})));
    expect(missing, yaml).toEqual([]);
  }
});

test('every page can be reached from README.md by links', () => {
  const reached = new Set(['README.md']);
  for (const page of reached) {
    if (!page.endsWith('.md')) continue;
    for (const link of all(read(page), /\]\((?!https?:)([^)\s#]+)[^)]*\)/g)) {
      reached.add(path.normalize(path.join(path.dirname(page), link)));
    }
  }
  expect(pages.filter((page) => page.startsWith('docs/') && !reached.has(page))).toEqual([]);
});

/** Codes of errors and names of settings look alike. */
function isNoSetting(name: string): boolean {
  return !(name in SETTINGS) && name !== 'POSTGRES_PASSWORD' && name !== 'DOCKER_HOST';
}

/** The anchors of a page's headings, as Markdown renderers make them. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('compose.example.yml', () => {
  test('uses settings and labels that work in this version', () => {
    const text = read('compose.example.yml');
    const settings = all(text, /^\s*#? *(LIFEBOAT_[A-Z_]+?)(?:_FILE)?:/gm);
    expect(settings.length).toBeGreaterThan(3);
    const fields = settings.map((name) => (SETTINGS as Record<string, { planned?: true }>)[name]);
    expect(fields.filter((field) => field === undefined || field.planned)).toEqual([]);
    expect(all(text, /^\s*(lifeboat\.[\w.]+):/gm)).toEqual(['lifeboat.postgres', 'lifeboat.volumes']);
  });
});

describe('ARCHITECTURE.md', () => {
  const folders = readdirSync(path.join(ROOT, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => path.relative(ROOT, entry.parentPath));

  test('has a line for every folder of src/ on its map, and no other', () => {
    const map = all(read('ARCHITECTURE.md'), /^ {4}(src\/[\w/]+)\/ /gm);
    expect(map.toSorted()).toEqual([...new Set(folders)].filter((folder) => folder !== 'src').toSorted());
  });

  test('every folder of src/ has a README, which names only files that are there', () => {
    for (const folder of new Set(folders)) {
      if (folder === 'src') continue;
      const text = read(`${folder}/README.md`);
      expect(text.startsWith(`# ${folder.replace('src/', '')}\n`), folder).toBe(true);
      const files = all(text, /`([\w./-]+\.ts)`/g);
      const exists = (file: string) => [folder, 'src', '.'].some((base) => existsSync(path.join(ROOT, base, file)));
      expect(files.length, folder).toBeGreaterThan(0);
      expect(
        files.filter((file) => !exists(file)),
        folder,
      ).toEqual([]);
    }
  });
});

describe('docs/security.md', () => {
  const page = read('docs/security.md');

  /** What each call of the engine asks for, `<id>` for what it is about. */
  async function requestsOfTheEngine(): Promise<string[]> {
    const stub = await startStubEngine();
    const engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 15_000 });
    const { exitLagMs: _number, ...calls } = engine;
    const everyCall: Record<keyof typeof calls, Promise<unknown>> = {
      ping: engine.ping(),
      events: engine.events({ actions: [] }),
      listContainers: engine.listContainers(),
      inspectContainer: engine.inspectContainer('ID'),
      inspectImage: engine.inspectImage('ID'),
      inspectVolume: engine.inspectVolume('ID'),
      inspectService: engine.inspectService('ID'),
      archive: engine.archive('ID', '/file'),
      createContainer: engine.createContainer('name', {}),
      startContainer: engine.startContainer('ID'),
      stopContainer: engine.stopContainer('ID', { timeout: 1 }),
      waitContainer: engine.waitContainer('ID'),
      removeContainer: engine.removeContainer('ID'),
      attach: engine.attach('ID', { stdin: false }),
      execCreate: engine.execCreate('ID', { argv: [] }),
      execStart: engine.execStart('ID'),
      execInspect: engine.execInspect('ID'),
    };
    await Promise.allSettled(Object.values(everyCall));
    await stub.close();
    return stub.requests.map((request) => request.replace('ID', '<id>')).sort();
  }

  test('has every call of the engine, and no other', async () => {
    const rows = [...page.matchAll(/^\| (GET|POST|DELETE) \| (.*) \|$/gm)].flatMap(([, method, paths = '']) =>
      all(paths, /`([^`]+)`/g).map((each) => `${method} ${each.replace('…', '/containers/<id>')}`),
    );
    expect(rows.toSorted()).toEqual(await requestsOfTheEngine());
  });

  test('has the patterns of docker/compose.hardened.yml', () => {
    const { command } = parse(read('docker/compose.hardened.yml')).services['docker-proxy'];
    const allowed = (command as string[]).flatMap((one) => {
      const [, method, pattern] = /^-allow([A-Z]+)=(.*)$/.exec(one) ?? [];
      return method === undefined ? [] : [`${method} ^${pattern}$`];
    });
    const rules = [...page.matchAll(/^(GET|POST|DELETE) +(\^.*\$)$/gm)].map(([, method, rule]) => `${method} ${rule}`);
    expect(allowed).toEqual(rules);
  });

  test('has patterns that let those through, and not what Lifeboat never asks for', async () => {
    const rules = [...page.matchAll(/^(GET|POST|DELETE) +(\^.*\$)$/gm)];
    const passes = (request: string) => {
      const [method, path = ''] = request.replace('<id>', 'shop-db-1').split(' ');
      return rules.some(([, allowed, pattern = '']) => allowed === method && new RegExp(pattern).test(path));
    };
    const requests = await requestsOfTheEngine();
    expect([...requests, ...requests.map((one) => one.replace(' ', ' /v1.41'))].filter((one) => !passes(one))).toEqual(
      [],
    );
    const never = ['POST /build', 'POST /images/create', 'PUT /containers/x/archive', 'POST /containers/x/kill'];
    never.push('GET /containers/x/logs', 'GET /containers/x/export', 'POST /commit', 'DELETE /volumes/x', 'GET /info');
    expect(never.filter(passes)).toEqual([]);
  });
});
