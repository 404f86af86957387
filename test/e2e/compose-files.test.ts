import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { ok } from '../harness/stack.ts';
import { PRODUCTS } from '../setup/products.ts';

/** `lifeboat init` reads Compose files without Compose. What it reads must be what Compose reads. */
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-compose-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Config {
  name: string;
  services: Record<string, { image?: string; volumes?: ConfigMount[] }>;
  volumes?: Record<string, { name: string }>;
}

interface ConfigMount {
  type: string;
  source?: string;
  target: string;
  read_only?: boolean;
}

/** Lists images and mounts: by Lifeboat, and by Compose. */
async function readBoth(files: Record<string, string>, given: string[] = []) {
  const root = await mkdtemp(path.join(directory, 'p'));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await writeFile(path.join(root, name), text);
  }
  const args = [
    'compose',
    ...given.flatMap((file) => ['--file', file]),
    '--profile',
    '*',
    'config',
    '--format',
    'json',
  ];
  const config = JSON.parse(await ok('docker', args, { cwd: root })) as Config;
  const theirs = Object.entries(config.services).flatMap(([service, { image = '', volumes = [] }]) => [
    `${service} ${image}`,
    ...volumes
      .filter(({ type }) => type !== 'tmpfs')
      .map(({ type, source = '', target, read_only }) => {
        const volume = source === '' ? '' : config.volumes?.[source]?.name.replace(`${config.name}_`, 'project_');
        const place = type === 'bind' ? path.resolve(source) : volume;
        return `${service} ${type} ${place} ${path.resolve(target)} ${read_only === true ? 'ro' : 'rw'}`;
      }),
  ]);
  const services = servicesOf(await readComposeProject(root, given, {}), () => undefined);
  const ours = services.flatMap(({ name, image, container }) => [
    `${name} ${image}`,
    ...container.mounts
      .filter(({ type }) => type !== 'tmpfs')
      .map(({ type, name: volume = '', source, destination, writable }) => {
        const place = type === 'bind' ? source : /^[0-9a-f]{64}$/.test(volume) ? '' : volume;
        return `${name} ${type} ${place} ${destination} ${writable ? 'rw' : 'ro'}`;
      }),
  ]);
  return { ours: ours.sort(), theirs: theirs.sort() };
}

test.each(PRODUCTS)('$product', async ({ yaml, files = {} }) => {
  // Compose wants an image or a Dockerfile's directory for each service, and each env_file.
  const { ours, theirs } = await readBoth({ ...files, '.env.prod': '', 'compose.yml': yaml });
  expect(ours).toEqual(theirs);
});

describe('several files', () => {
  test('start in the directory of the first one, and replace with !override and !reset', async () => {
    const files = {
      '.env': 'NAME=wrong\n',
      'deploy/.env': 'NAME=media\n',
      'deploy/compose.yml': `services:
  web: { image: "\${A:-$NAME}:\${B:-\${C:-1}}", volumes: ["..:/app/", "\${NAME}:/m", "./in:/in:ro"] }
  base: { extends: { file: more/base.yml, service: base } }
  gone: { image: x, volumes: ["gone:/g"] }
  none: { image: x, volumes: ["gone:/n"] }
volumes: { media: {}, gone: {}, other: {}, named: { name: "x-\${NAME}" }, out: { external: true, name: legacy } }
`,
      'deploy/more/base.yml': 'services: { base: { image: y, volumes: ["./v:/v", "other:/b"] } }\n',
      'deploy/more/prod.yml': `services:
  web: { volumes: [".:/project", "named:/named", "out:/out", { type: bind, source: ./l, target: /l, read_only: true }] }
  gone: !reset null
  none:
    volumes: !override ["./o:/o:ro"]
`,
    };
    const { ours, theirs } = await readBoth(files, ['deploy/compose.yml', 'deploy/more/prod.yml']);
    expect(ours).toEqual(theirs);
    expect(ours.length).toBeGreaterThan(10);
  });

  test('may be included, with a directory of their own', async () => {
    const { ours, theirs } = await readBoth({
      'compose.yml': `include:
  - path: [a/one.yml, b/two.yml]
  - { path: c/three.yml, project_directory: d }
services: { web: { image: x, volumes: ["./v:/web"] } }
`,
      'a/one.yml': 'services: { one: { image: x, volumes: ["./v:/one"] } }\n',
      'b/two.yml': 'services: { one: { volumes: ["./w:/two"] } }\n',
      'c/three.yml': 'services: { three: { image: x, volumes: ["./v:/three"] } }\n',
      // Compose ignores a directory that does not exist.
      'd/file': '',
    });
    expect(ours).toEqual(theirs);
  });
});
