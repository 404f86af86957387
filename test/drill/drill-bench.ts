import { silentLog } from '../../src/base/log.ts';
import type { DrillDeps, DrillRequest } from '../../src/drill/context.ts';
import type { Plan } from '../../src/plan/model.ts';
import type { RunEvent } from '../../src/report/events.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { CopyBench } from '../run/copy-bench.ts';

/** A repository whose snapshots are drilled without an engine: nothing can be restored. */
export class DrillBench {
  readonly copies = new CopyBench();
  readonly events: RunEvent[] = [];
  /** names of the sources in the plan */
  sources: string[] = [];

  remove(): void {
    this.copies.remove();
  }

  deps(over: Partial<DrillDeps> = {}): DrillDeps {
    const { copies, events } = this;
    const refuse = async () => {
      throw new Error('there is no engine');
    };
    const engine = { inspectImage: refuse, inspectContainer: refuse, createContainer: refuse };
    return {
      ...{ project: 'shop', agentVersion: '1.2.3', agentId: 'a1', log: silentLog, state: copies.state },
      ...{
        spool: copies.at('spool'),
        journals: copies.at('journals'),
        place: 'main',
        copies: [],
        otherRepository: false,
      },
      lock: async () => ({ release: async () => undefined }),
      recover: async () => undefined,
      clear: async () => undefined,
      repository: () => copies.main(),
      ownRepository: () => copies.main(),
      plan: async () => ({ sources: this.sources.map((name) => ({ name, kind: 'volume' })) }) as unknown as Plan,
      now: () => new Date('2026-11-20T06:00:00.000Z'),
      settings: {
        timeoutMs: 60_000,
        assertTimeoutMs: 1000,
        cpus: 1,
        memory: 2 ** 31,
        mode: 'off',
        schedule: '0 6 * * 6',
      },
      dispatcher: { emit: (event: RunEvent) => void events.push(event), flush: async () => undefined },
      ...{ engine, agent: { engine, id: 'a1' }, agentImage: 'lifeboat' },
      treeStore: {},
      ...over,
    } as unknown as DrillDeps;
  }

  request(over: Partial<DrillRequest> = {}): DrillRequest {
    return {
      ...{ sources: [], snapshot: 'latest', stack: false, trigger: 'manual', unsigned: false },
      ...{ signal: new AbortController().signal, say: () => undefined },
      ...over,
    };
  }

  main(): Promise<Repository> {
    return this.copies.main();
  }
}
