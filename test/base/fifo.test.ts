import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readFifo } from '../../src/base/fifo.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-fifo-'));
  file = path.join(directory, 'fifo');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Runs a shell script with the name of the FIFO as `$0`. */
function run(script: string) {
  const child = spawn('sh', ['-c', script, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const done = new Promise<void>((resolve, reject) => {
    child.on('close', (code, signal) => (code === 0 ? resolve() : reject(new Error(`ended with ${code ?? signal}`))));
  });
  done.catch(() => {});
  return { stdout: child.stdout, done };
}

const READY = 'mkfifo "$0" && echo &&';

describe('what a program writes into a FIFO', () => {
  test('arrives whole', async () => {
    const program = run(`${READY} seq 1 3000000 >"$0"`);
    const hash = createHash('sha256');
    await readFifo(program, file, async (content) => {
      for await (const chunk of content) hash.update(chunk as Buffer);
    });
    const expected = createHash('sha256');
    for (let n = 1; n <= 3_000_000; n += 1000)
      expected.update(Array.from({ length: 1000 }, (_, at) => `${n + at}\n`).join(''));
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
  });

  test.each([
    ['before it writes', `${READY} exit 3`],
    ['after it has written', `${READY} { seq 1 100; exit 3; } >"$0"`],
    ['before the FIFO exists', 'exit 3'],
    ['after it has closed the FIFO', `${READY} seq 1 100 >"$0"; sleep 0.2; exit 3`],
  ])('never looks complete if the program fails %s', async (_, script) => {
    await expect(readFifo(run(script), file, buffer)).rejects.toThrow('ended with 3');
  });

  test('ends if the program succeeds without opening the FIFO', async () => {
    const content = await readFifo(run(`${READY} exit 0`), file, buffer);
    expect(content).toHaveLength(0);
  });

  test('stays whole if the reader begins after the program has ended', async () => {
    const program = run(`${READY} seq 1 100 >"$0"`);
    const content = await readFifo(program, file, async (readable) => {
      // A pipe holds what is left, also after its writer has closed it.
      await Promise.race([program.done, new Promise((resolve) => setTimeout(resolve, 200))]);
      return buffer(readable);
    });
    expect(content.toString().split('\n')).toHaveLength(101);
  });

  test('ends the program if the reader gives up', async () => {
    const program = run(`${READY} exec yes >"$0"`);
    const giveUp = async (content: Readable) => {
      for await (const _ of content) throw new Error('enough');
    };
    await expect(readFifo(program, file, giveUp)).rejects.toThrow('enough');
    await expect(program.done).rejects.toThrow('SIGPIPE');
  });
});

test.each([
  ['a file', 'echo secret >"$0" && echo'],
  ['a link', 'mkfifo "$0.other" && ln -s "$0.other" "$0" && echo'],
])('%s is not read as a FIFO', async (_, script) => {
  await expect(readFifo(run(script), file, buffer)).rejects.toThrow(/is not a FIFO|ELOOP/);
});
