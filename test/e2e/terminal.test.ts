import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Terminal } from '../harness/docker.ts';
import { holder, Stack, until, whileRuns } from '../harness/stack.ts';

/** The output and the questions at a terminal. */
describe('a restore at a terminal', () => {
  let stack: Stack;
  const QUESTION = 'Type web.media to continue:';

  let terminal: Terminal;
  const restore = async (env: string[] = []) => {
    terminal = await stack.terminal(['restore', 'latest', 'web.media'], env);
    const shown = terminal.ended.then(() => terminal.shown());
    await whileRuns(
      shown,
      until('it asks', async () => terminal.shown().includes(QUESTION)),
    );
  };
  // An unanswered command would hold the lock, and fail the next commands too.
  afterEach(() => terminal.type('\x03'));
  const content = () => stack.exec('web', ['cat', '/media/photo']);

  beforeAll(async () => {
    stack = await Stack.start({
      services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
      volumes: { media: {} },
      receiver: false,
    });
    await stack.exec('web', ['sh', '-c', 'echo then >/media/photo']);
    expect((await stack.backup()).report.status).toBe('ok');
    await stack.exec('web', ['sh', '-c', 'echo now >/media/photo']);
  });
  afterAll(() => stack?.destroy());

  it.each([
    ['nothing', '\r'],
    ['the name of something else', 'db.postgres\r'],
    ['Ctrl+D', '\x04'],
    ['Ctrl+C', '\x03'],
  ])('changes nothing if the answer is %s', async (_, keys) => {
    await restore();
    terminal.type(keys);
    expect(await terminal.ended).toBe(2);
    expect(terminal.shown()).toMatch(
      /error: the answer was not web\.media \(NOT_CONFIRMED\)\s+hint: Nothing was changed\./,
    );
    expect(await content()).toBe('now\n');
    expect((await stack.json<{ snapshots: unknown[] }>('snapshots')).snapshots).toHaveLength(1);
  });

  it('asks for the name once more if the answer is yes, and changes nothing without it', async () => {
    await restore();
    terminal.type('yes\r');
    await until('it asks again', async () => terminal.shown().includes('Type the name web.media itself'));
    terminal.type('yes\r');
    expect(await terminal.ended).toBe(2);
    expect(terminal.shown()).toContain('error: the answer was not web.media (NOT_CONFIRMED)');
    expect(await content()).toBe('now\n');
  });

  it('shows what it will do, asks, and describes each step in plain words', async () => {
    await restore();
    expect(terminal.shown()).toMatch(
      /will replace .*1 file replaced.*\s+will stop .*web-1.*\s+note +1 file changed after the snapshot: its present content is put aside\s+keeps .*\s+reads /,
    );
    expect(await content()).toBe('now\n');
    terminal.type('web.media\r');
    expect(await terminal.ended, terminal.shown()).toBe(0);
    expect(await content()).toBe('then\n');
    const told = ['safety snapshot .* is stored and pinned', 'stopping .*web-1', 'compared with its recorded hash'];
    expect(terminal.shown()).toMatch(new RegExp([...told, 'to undo it: lifeboat rollback'].join('[^]*')));
    // The agent logs each action as JSON. Here the log is text.
    expect(terminal.shown()).toContain('info: stopping a container');
    expect(terminal.shown()).not.toContain('{"');
  });

  it('keeps the full log on request', async () => {
    await restore(['LOG_LEVEL=debug']);
    terminal.type('\r');
    expect(await terminal.ended).toBe(2);
    const backup = await stack.terminal(['backup'], ['LOG_LEVEL=debug']);
    expect(await backup.ended).toBe(0);
    expect(backup.shown()).toMatch(/^\S+ info: run started run=\S+ /m);
  });
});
