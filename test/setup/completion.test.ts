import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { createProgram } from '../../src/cli.ts';
import type { Io } from '../../src/commands/call.ts';
import { completionScript } from '../../src/setup/completion.ts';
import { printSourceNames } from '../../src/setup/source-names.ts';

/** Runs the scripts in the real shells. The command that prints the sources is a function of the shell. */
const NAMES = 'lifeboat() { [ "$*" = source-names ] && printf "%s\\n" db.postgres web.media; }';
const program = createProgram({} as Io, () => undefined);

function run(shell: string, args: readonly string[], input: string): string[] {
  const { stdout, stderr, status, error } = spawnSync(shell, args, { input, encoding: 'utf8' });
  if (error) throw error;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Returns what a shell offers for the last of the words. */
const COMPLETE: Record<string, (words: readonly string[]) => string[]> = {
  bash: (words) => {
    const line = ['lifeboat', ...words].map((word) => `'${word}'`).join(' ');
    const ask = `COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _lifeboat; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return run('bash', ['--norc'], `${NAMES}\n${completionScript(program, 'bash')}\n${ask}\n`);
  },
  zsh: (words) => {
    const line = ['lifeboat', ...words].map((word) => `'${word}'`).join(' ');
    // Outside of the line editor, _describe has nowhere to offer its entries.
    const stub = `compdef() { :; }\n_describe() { print -rl -- "\${(@P)2%%:*}"; }\n`;
    const ask = `words=(${line}); CURRENT=${words.length + 1}; _lifeboat`;
    const found = run('zsh', ['-f'], `${NAMES}\n${stub}${completionScript(program, 'zsh')}\n${ask}\n`);
    return found.filter((word) => word.startsWith(words.at(-1) ?? ''));
  },
  fish: (words) => {
    const line = ['lifeboat', ...words].join(' ');
    const names = 'function lifeboat; test "$argv" = source-names; and printf "%s\\n" db.postgres web.media; end';
    const script = `${names}\n${completionScript(program, 'fish')}\ncomplete -C '${line}'\n`;
    return run('fish', ['--no-config', '-c', script], '').map((entry) => entry.split('\t')[0] ?? '');
  },
};

const isThere = (shell: string) => spawnSync(shell, ['-c', 'true']).status === 0;

describe.each(Object.keys(COMPLETE))('%s', (shell) => {
  // scripts/setup.sh installs all of them. On a machine that nobody may change, the shells that are there count.
  const complete = COMPLETE[shell] ?? (() => []);

  test.skipIf(!isThere(shell))('completes commands, options and values', () => {
    expect(complete(['res'])).toEqual(['restore']);
    expect(complete(['bucket', 'un'])).toEqual(['undelete']);
    expect(complete(['restore', '--to-d']).toSorted()).toEqual(['--to-database', '--to-directory']);
    expect(complete(['restore', 'la'])).toEqual(['latest']);
    expect(complete(['export', '--format', 'z'])).toEqual(['zip']);
    expect(complete(['restore', 'latest', '--li'])).toEqual(['--live']);
    expect(complete(['tree-j'])).toEqual([]);
    expect(complete(['init', '-'])).toEqual(expect.arrayContaining(['--file', '-f']));
  });

  test.skipIf(!isThere(shell))('completes the names of sources', () => {
    expect(complete(['backup', 'd'])).toEqual(['db.postgres']);
    expect(complete(['restore', 'latest', 'w'])).toEqual(['web.media']);
    expect(complete(['drill', 'db.postgres', 'web'])).toEqual(['web.media']);
    expect(complete(['backup', '-'])).not.toContain('db.postgres');
    expect(complete(['export', '--format', 'd'])).toEqual([]);
    expect(complete(['prune', 'd'])).toEqual([]);
  });
});

test('an unknown shell is refused', () => {
  expect(() => completionScript(program, 'tcsh')).toThrow('there is no completion for tcsh');
  expect(() => completionScript(program, 'constructor')).toThrow('there is no completion');
});

test('the names of sources come from the spool alone', async () => {
  const spool = mkdtempSync(path.join(tmpdir(), 'lifeboat-names-'));
  const shown: string[] = [];
  const out = (text: string) => void shown.push(text);
  await printSourceNames(out, spool);
  expect(shown).toEqual([]);
  mkdirSync(path.join(spool, 'state'));
  const last = { run: 'r', at: '2026-11-20T03:00:00.000Z', status: 'ok' };
  writeFileSync(
    path.join(spool, 'state/results.json'),
    JSON.stringify({ 'web.media': last, 'db.postgres': last, 'a b': last }),
  );
  await printSourceNames(out, spool);
  expect(shown.join('')).toBe('db.postgres\nweb.media\n');
  rmSync(spool, { recursive: true });
});
