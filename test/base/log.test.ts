import { expect, it } from 'vitest';
import { createLog, readable, textLine } from '../../src/base/log.ts';

it('a line of the log is readable at a terminal', () => {
  const lines: string[] = [];
  const log = createLog('warn', (line) => lines.push(readable(line)));
  log.info('nothing of interest');
  log.warn('a listener failed', { listener: 'slack', code: 'NOTIFY_FAILED', message: 'no answer' });
  log.error('the state is gone');
  expect(lines).toEqual(['warning: a listener failed: no answer (NOTIFY_FAILED)\n', 'error: the state is gone\n']);
});

it('a line of the log is one line of text with LOG_FORMAT=text', () => {
  const lines: string[] = [];
  const log = createLog('info', (line) => lines.push(textLine(line)));
  log.warn('db.postgres: failed', {
    run: 'r1',
    code: 'PG_AUTH',
    message: 'no\npassword',
    hint: 'set a "password"',
    n: 2,
  });
  expect(lines.join('').replace(/^\S+/, 'TIME')).toBe(
    `TIME warning: db.postgres: failed: no password (PG_AUTH) run=r1 hint="set a \\"password\\"" n=2\n`,
  );
});
