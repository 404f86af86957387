import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { createBody } from '../../src/docker/helper.ts';
import { HELPER_KINDS, type HelperKind, kindSpec } from '../../src/docker/helper-kinds.ts';

const START = '<!-- helpers: made from the code by UPDATE_DOCS=1 npm run test:unit -->\n';
const END = '<!-- end of list -->\n';
const PAGE = new URL('../../docs/security.md', import.meta.url);
const SRC = path.join(import.meta.dirname, '../../src');

const KINDS: HelperKind[] = Object.values(HELPER_KINDS);

/** Wraps a line of a list at 120 columns. */
function wrap(line: string): string {
  const indent = /^ *- /.exec(line)?.[0].length ?? 0;
  const lines: string[] = [];
  for (const word of line.slice(indent).split(' ')) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && longer.length + indent <= 120) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return line.slice(0, indent) + lines.join(`\n${' '.repeat(indent)}`);
}

function section({ title, task, image, network, mounts, capabilities, limits }: HelperKind): string {
  const seen = Object.values(mounts).map(
    ({ doc, access }) =>
      `${wrap(`    - ${doc}${access === 'either' ? '' : access === 'read-only' ? ' Read-only.' : ' Read-write.'}`)}\n`,
  );
  const may = Object.entries(capabilities).map(([name, why]) => `    - \`${name}\`, ${why}.\n`);
  return [
    `- **${title}**: ${task}.\n`,
    `  - Image: ${image}.\n`,
    `  - Network: ${network}.\n`,
    ...['  - Mounts:\n', ...seen],
    ...(may.length === 0 ? ['  - Capabilities: none.\n'] : ['  - Capabilities:\n', ...may]),
    ...(limits ? [`  - Limits: ${limits.memoryMib} MiB of memory, ${limits.pids} processes.\n`] : []),
  ].join('');
}

it('lists each kind of helper in docs/security.md as in the code (UPDATE_DOCS=1 writes it)', () => {
  const expected = KINDS.map(section).join('');
  const [before, rest = ''] = readFileSync(PAGE, 'utf8').split(START);
  const [actual, ...after] = rest.split(END);
  if (process.env.UPDATE_DOCS) writeFileSync(PAGE, before + START + expected + END + after.join(END));
  else expect(actual).toBe(expected);
});

it('lets no other file of src/ choose the mounts or capabilities of a helper', () => {
  const choosing = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .filter((name) => /\b(capAdd|capDrop|helperMount)\b/.test(readFileSync(path.join(SRC, name), 'utf8')));
  expect(choosing.sort()).toEqual(['docker/helper-kinds.ts', 'docker/helper.ts']);
});

it('mounts nothing writable that the kind declares read-only', () => {
  const mount = { type: 'volume', name: 'v', source: '/x', destination: '/y', writable: true };
  for (const kind of KINDS) {
    for (const [role, { access }] of Object.entries(kind.mounts)) {
      const asked = { [role]: [{ mount, target: '/t', access: 'read-write' as const }] };
      expect(kindSpec(kind, asked).mounts).toEqual([
        { type: 'volume', source: 'v', target: '/t', readOnly: access === 'read-only' },
      ]);
    }
  }
});

it('limits what the programs of an imported dump can take from the host', () => {
  const spec = { ...kindSpec(HELPER_KINDS.import, {}), ...{ runId: 'r', project: 'p', agent: 'a', image: 'i' } };
  const body = createBody(spec, {}, { attached: false, blkio: false });
  expect(body).toMatchObject({ HostConfig: { Memory: 2 * 1024 ** 3, PidsLimit: 512 } });
});

it('limits the processors of a helper, whatever their number on the host', () => {
  const spec = { ...kindSpec(HELPER_KINDS.drill, {}), ...{ runId: 'r', project: 'p', agent: 'a', image: 'i' } };
  const hostOf = (more: object) => createBody({ ...spec, ...more }, {}, { attached: false, blkio: false });
  expect(hostOf({ cpus: 1.5 })).toMatchObject({ HostConfig: { CpuPeriod: 100_000, CpuQuota: 150_000 } });
  expect(JSON.stringify(hostOf({}))).not.toContain('CpuQuota');
});
