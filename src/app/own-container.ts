import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { LifeboatError } from '../base/errors.ts';
import { factsOf } from '../docker/discover.ts';
import type { CallOptions, Engine } from '../docker/engine.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';

/** The agent's own container. */
export interface Self {
  facts: ContainerFacts;
}

/** The files and names by which the agent can identify itself. Tests pass their own to {@link findSelf}. */
interface SelfClues {
  mountinfo: string;
  cgroup: string;
  hostname: string;
}

/**
 * Finds the container that this process runs in. @throws AGENT_NOT_IN_CONTAINER if no clue leads to a container that
 * the engine knows
 */
export async function findSelf(engine: Engine, options: CallOptions & { clues?: SelfClues } = {}): Promise<Self> {
  const clues = options.clues ?? (await readClues());
  for (const id of candidateIds(clues)) {
    const facts = await factsOf(engine, id, options);
    if (facts?.id.startsWith(id)) return { facts };
  }
  throw new LifeboatError('AGENT_NOT_IN_CONTAINER', 'Lifeboat cannot find its own container on this engine', {
    hint: 'Run Lifeboat with docker compose, on the engine whose socket it uses, and do not set a hostname for it.',
  });
}

/** Podman: `…/overlay-containers/<id>/userdata/hostname`. */
const OWN_FILE = /containers\/([0-9a-f]{64})\/(?:userdata\/)?(?:hostname|hosts|resolv\.conf)/g;

/**
 * Returns possible ids of this container, the most reliable first. The cgroup path contains the id (cgroup v1, or a
 * shared cgroup namespace). The sources of /etc/hostname, hosts and resolv.conf are in the container's directory on the
 * host (in the other container's with `network_mode: container:…`). The hostname is the short id unless it was set.
 */
export function candidateIds({ mountinfo, cgroup, hostname }: SelfClues): string[] {
  const ids: string[] = [];
  const last = [...cgroup.matchAll(/(?:docker|libpod)[-/]([0-9a-f]{64})/g)].at(-1)?.[1];
  if (last) ids.push(last);
  for (const [, id] of mountinfo.matchAll(OWN_FILE)) {
    if (id) ids.push(id);
  }
  if (/^[0-9a-f]{12,64}$/.test(hostname)) ids.push(hostname);
  return [...new Set(ids)];
}

async function readClues(): Promise<SelfClues> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  return {
    mountinfo: await read('/proc/self/mountinfo'),
    cgroup: await read('/proc/self/cgroup'),
    hostname: hostname(),
  };
}

/**
 * Returns what the agent knows about itself if no engine is available: its mounts, as the kernel lists them (proc(5)).
 */
export async function offlineSelf(): Promise<Self> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  const nothing = { labels: {}, imageLabels: {}, env: {} };
  return { facts: { id: '', name: '', project: '', service: '', imageId: '', running: true, ...nothing, mounts } };
}

/** Parses the mount points in /proc/self/mountinfo, except the root. Octal escapes encode blanks. */
function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [, , , root = '', point = '/', options = '', ...rest] = line.split(' ');
    if (point === '/' || point === '') return [];
    const kind = rest[rest.indexOf('-') + 1];
    const destination = point.replace(/\\([0-7]{3})/g, (_, code: string) =>
      String.fromCharCode(Number.parseInt(code, 8)),
    );
    const writable = options.split(',').includes('rw');
    return [{ type: kind === 'tmpfs' ? 'tmpfs' : 'bind', source: root, destination, writable }];
  });
}
