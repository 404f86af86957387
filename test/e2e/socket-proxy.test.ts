import { readFileSync } from 'node:fs';
import { chown, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type ProxyRules, type SocketProxy, startSocketProxy } from '../harness/socket-proxy.ts';
import { holder, hostAddress, postgres, Stack } from '../harness/stack.ts';

/**
 * Lifeboat with the rights of docker/compose.hardened.yml, behind a proxy with exactly the rules of docs/security.md: a
 * backup, and a restore.
 */
let proxy: SocketProxy;
/** The proxy reads them at each request. */
let rules: ProxyRules;
let stack: Stack;

function rulesOfThePage(): ProxyRules {
  const page = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
  const block = /<!-- proxy rules.*?-->\n```\n(.*?)```/s.exec(page)?.[1] ?? '';
  const rules = [...block.matchAll(/^([A-Z]+)\s+(\^.*\$)$/gm)];
  return Object.fromEntries(rules.map(([, method = '', pattern = '']) => [method, new RegExp(pattern)]));
}

/** What the switches in docs/hardening.md allow: `POST` opens every method for the paths of the others. */
function rulesOfTheSwitches(): ProxyRules {
  const page = readFileSync(new URL('../../docs/hardening.md', import.meta.url), 'utf8');
  const yaml = /```yaml\n(services:\n {2}docker-proxy:.*?)```/s.exec(page)?.[1] ?? '';
  const on = Object.keys(parse(yaml).services['docker-proxy'].environment);
  const [, table = ''] = page.split('<!-- switches:');
  const patterns = new Map(
    [...table.matchAll(/^\| `([A-Z]+)` \| `(\^.*)` \|$/gm)].map(([, name, pattern]) => [name, pattern]),
  );
  expect(on.toSorted()).toEqual(['POST', ...patterns.keys()].toSorted());
  const any = new RegExp([...patterns.values()].join('|'), 'i');
  return { GET: any, POST: any, DELETE: any };
}

/** The keys of the hardened service that limit its rights. */
function hardened(): Record<string, unknown> {
  const text = readFileSync(new URL('../../docker/compose.hardened.yml', import.meta.url), 'utf8');
  const { lifeboat } = parse(text).services;
  const keys = ['read_only', 'tmpfs', 'cap_drop', 'cap_add', 'security_opt', 'mem_limit', 'pids_limit'];
  return Object.fromEntries(keys.map((key) => [key, lifeboat[key]]));
}

beforeAll(async () => {
  rules = rulesOfThePage();
  expect(Object.keys(rules)).toEqual(['GET', 'POST', 'DELETE']);
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  proxy = await startSocketProxy(socket, rules);
  stack = await Stack.start({
    services: {
      db: postgres(17),
      web: holder(['media:/app/media'], {
        'lifeboat.volumes': 'media',
        'lifeboat.stop': 'true',
        'lifeboat.exec.pre': 'touch /app/media/pre',
      }),
    },
    volumes: { media: {} },
    agent: { ...hardened(), volumes: ['./restored:/restored', './private:/config:ro'] },
    env: { DOCKER_HOST: `tcp://${await hostAddress()}:${proxy.port}` },
  });
  const key = path.join(stack.directory, 'private/key');
  await writeFile(key, 'secret', { mode: 0o600 });
  await chown(key, 1234, 1234);
  await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
});
afterAll(async () => {
  await stack?.destroy();
  await proxy?.close();
});

it('backs up and restores, with hooks, a stop, and helpers', async () => {
  const { code, report, stderr } = await stack.backup();
  expect({ code, status: report.status }, stderr).toEqual({ code: 0, status: 'ok' });
  const restored = await stack.lifeboat('restore', 'latest', 'db.postgres', '--to-database', 'again');
  expect(restored.code, restored.stderr).toBe(0);
  await stack.exec('web', ['rm', '/app/media/pre']);
  const volume = await stack.lifeboat('restore', 'latest', 'web.media');
  expect(volume.code, volume.stderr).toBe(0);
  expect(await stack.exec('web', ['ls', '/app/media'])).toBe('pre\n');
});

it('sent no request that the rules refuse, and left nothing behind', async () => {
  expect(proxy.refused).toEqual([]);
  const kinds = ['POST /containers/create', '/exec/', '/attach', '/stop', 'GET /events', 'DELETE /containers/'];
  expect(kinds.filter((kind) => !proxy.passed.some((request) => request.includes(kind)))).toEqual([]);
  expect(await stack.helpers()).toEqual([]);
});

it('backs up and restores behind the switches of the other proxy, too', async () => {
  Object.assign(rules, rulesOfTheSwitches());
  const before = proxy.passed.length;
  const { code, report, stderr } = await stack.backup();
  expect({ code, status: report.status }, stderr).toEqual({ code: 0, status: 'ok' });
  const volume = await stack.lifeboat('restore', 'latest', 'web.media', '--yes');
  expect(volume.code, volume.stderr).toBe(0);
  expect(proxy.passed.length).toBeGreaterThan(before);
  expect(proxy.refused).toEqual([]);
  Object.assign(rules, rulesOfThePage());
});

it('reads files of other owners under /config, and restores them with their owners', async () => {
  const restored = await stack.lifeboat('restore', 'latest', 'config', '--to-directory', '/restored/config');
  expect(restored.code, restored.stderr).toBe(0);
  const { uid, gid, mode } = await stat(path.join(stack.directory, 'restored/config/key'));
  expect({ uid, gid, mode: mode & 0o777 }).toEqual({ uid: 1234, gid: 1234, mode: 0o600 });
});

it('is healthy, and cannot write to its own file system', async () => {
  const written = await stack.compose('exec', '--no-TTY', 'lifeboat', 'sh', '-c', 'touch /lifeboat/x 2>&1 || true');
  expect(written).toContain('Read-only file system');
  await stack.compose('up', '--detach', '--wait', '--wait-timeout', '120', 'lifeboat');
});
