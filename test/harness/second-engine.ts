import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Ran, sh, until } from './stack.ts';

/** A second Docker engine on this machine, with images, containers and volumes of its own. It stands for another host. */
export interface SecondEngine {
  socket: string;
  /** Runs a script of the shell whose `docker` is this engine. */
  run(script: string, cwd?: string): Promise<Ran>;
  /** Copies images of the first engine. */
  load(...images: string[]): Promise<void>;
  /** Removes everything that the engine has, and ends it. */
  stop(): Promise<void>;
}

const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n'];

/**
 * Starts an engine in a network namespace of its own. In that of the first engine, it would take over or remove the
 * first one's bridge, `docker0`. Its containers reach each other, and nothing else.
 */
export async function startSecondEngine(): Promise<SecondEngine> {
  const root = await mkdtemp(path.join(tmpdir(), 'lbe-'));
  const socket = path.join(root, 'docker.sock');
  const at = (name: string) => path.join(root, name);
  const args = [
    ...['dockerd', '--host', `unix://${socket}`, '--data-root', at('data'), '--exec-root', at('exec')],
    ...['--pidfile', at('pid'), '--log-level', 'error'],
  ];
  const inNamespace = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];
  const [command = '', ...rest] = [...asRoot, ...inNamespace, ...args];
  const daemon = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  daemon.stderr.on('data', (chunk) => {
    said += chunk;
  });
  const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
  const run = (script: string, cwd = root) => sh('sh', ['-ec', script], { cwd, env });
  await until('the second engine answers', async () => {
    if (daemon.exitCode !== null) throw new Error(`dockerd ended:\n${said}`);
    return (await run('docker version')).code === 0;
  });
  return {
    socket,
    run,
    async load(...images) {
      const pipe = `docker --host "$FIRST" save ${images.join(' ')} | docker load --quiet`;
      const first = { FIRST: process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock' };
      const { code, stderr } = await sh('sh', ['-ec', pipe], { env: { ...env, ...first } });
      if (code !== 0) throw new Error(`the images were not loaded: ${stderr}`);
    },
    async stop() {
      await run('docker swarm leave --force || true; docker ps --all --quiet | xargs -r docker rm --force --volumes');
      const ended = once(daemon, 'exit');
      await sudo('kill', (await readFile(at('pid'), 'utf8')).trim());
      await ended;
      // The engine leaves the mount of its network namespace.
      await sudo('sh', '-c', `umount "${at('exec')}"/netns/* 2>/dev/null; rm -rf "${root}"`);
    },
  };
}

async function sudo(...words: string[]): Promise<void> {
  const [program = '', ...args] = [...asRoot, ...words];
  await sh(program, args);
}
