import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createProgram } from '../src/cli.ts';
import type { Io } from '../src/commands/call.ts';

/** docker/lifeboat starts Node with options for its memory, except for commands that read no contents. */
const READS_CONTENTS = [
  'backup',
  'daemon',
  'restore',
  'export',
  'import',
  'drill',
  'check',
  'copy',
  'prune',
  'tree-job',
];

test('the launcher knows for each command whether it reads contents', () => {
  const launcher = readFileSync(new URL('../docker/lifeboat', import.meta.url), 'utf8');
  const light = [...launcher.matchAll(/^ {2}(.*)\) memory= ;;$/gm)]
    .flatMap(([, pattern = '']) => pattern.split(' | '))
    .filter((word) => word !== '-*' && word !== 'help');
  const commands = createProgram({} as Io, () => undefined).commands.map((command) => command.name());
  expect([...light, ...READS_CONTENTS].toSorted()).toEqual(commands.toSorted());
});
