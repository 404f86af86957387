import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startReceiver } from '../../harness/receiver.ts';

test('answers with one behaviour for each request, and repeats the last one', async () => {
  const lines: string[] = [];
  const receiver = await startReceiver({ log: (line) => lines.push(line) });
  try {
    receiver.behave([{ status: 500 }, { status: 201, body: 'made', headers: { 'Ping-Body-Limit': '9' } }]);
    const get = () => fetch(`${receiver.url}/a/b?x=1`, { method: 'POST', body: 'first line\nsecond' });
    expect((await get()).status).toBe(500);
    for (let i = 0; i < 2; i++) {
      const response = await get();
      expect([response.status, response.headers.get('ping-body-limit'), await response.text()]).toEqual([
        201,
        '9',
        'made',
      ]);
    }
    expect(receiver.requests[0]).toMatchObject({ path: '/a/b', query: { x: '1' }, body: 'first line\nsecond' });
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d {2}POST \/a\/b {2}\(answered 500\) {2}first line$/);
    receiver.behave({ reset: true });
    await expect(get()).rejects.toThrow();
  } finally {
    await receiver.close();
  }
});

test('runs as a program that tests can control', async () => {
  const path = fileURLToPath(new URL('../../harness/receiver.ts', import.meta.url));
  const child = spawn(process.execPath, [path, '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  try {
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const port = /port (\d+)$/.exec((await lines.next()).value ?? '')?.[1];
    const url = `http://127.0.0.1:${port}`;
    await fetch(`${url}/_behave`, { method: 'PUT', body: JSON.stringify({ status: 418 }) });
    const body = JSON.stringify({ text: 'shop: backup ok' });
    expect((await fetch(`${url}/slack`, { method: 'POST', body })).status).toBe(418);
    expect((await lines.next()).value).toMatch(/POST \/slack {2}\(answered 418\) {2}shop: backup ok$/);
    expect(await (await fetch(`${url}/_requests`)).json()).toMatchObject([{ path: '/slack', body }]);
  } finally {
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  }
});
