import { expect, it } from 'vitest';
import { createLog, readable } from '../../src/base/log.ts';

it('a line of the log is readable at a terminal', () => {
  const lines: string[] = [];
  const log = createLog('warn', (line) => lines.push(readable(line)));
  log.info('nothing of interest');
  log.warn('a listener failed', { listener: 'slack', code: 'NOTIFY_FAILED', message: 'no answer' });
  log.error('the state is gone');
  expect(lines).toEqual(['warning: a listener failed: no answer (NOTIFY_FAILED)\n', 'error: the state is gone\n']);
});
