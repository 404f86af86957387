import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createEngine, type Engine } from '../../src/docker/engine.ts';

/** The image of the containers in these tests. It has bash, cat, dd and sha256sum. */
export const IMAGE = 'debian:trixie-slim';
const LABEL = 'dev.lifeboat.test';

/** A real engine, and containers that are removed when the tests of the file are over. */
export interface Bench {
  engine: Engine;
  /** value of the label of all containers of this file */
  mark: string;
  /** Starts a container that idles, or runs `cmd`. Returns its id. */
  start(options?: { image?: string; cmd?: string[]; env?: string[]; labels?: Record<string, string> }): Promise<string>;
}

export function useBench(): Bench {
  // A busy engine records an end late. These tests do not check for cut connections.
  const engine = createEngine({ log: silentLog, exitLagMs: 60_000 });
  const mark = randomBytes(4).toString('hex');
  beforeAll(() => engine.ping());
  afterAll(async () => {
    const left = await engine.listContainers({ labels: [`${LABEL}=${mark}`] });
    await Promise.all(left.map(({ id }) => engine.removeContainer(id, { force: true, volumes: true })));
  });
  return {
    engine,
    mark,
    async start({ image = IMAGE, cmd = ['sleep', '600'], env = [], labels = {} } = {}) {
      const spec = {
        Image: image,
        Cmd: cmd,
        Env: env,
        Labels: { ...labels, [LABEL]: mark },
        HostConfig: { Init: true, NetworkMode: 'none' },
      };
      const { id } = await engine.createContainer(`lifeboat-test-${randomBytes(4).toString('hex')}`, spec);
      await engine.startContainer(id);
      return id;
    },
  };
}
