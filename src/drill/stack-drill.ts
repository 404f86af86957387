import { errorInfo, LifeboatError } from '../base/errors.ts';
import { execText } from '../docker/exec.ts';
import { HEARTBEAT_S } from '../docker/heartbeat.ts';
import { type Helper, startHelper } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../docker/helper-kinds.ts';
import type { Hook, HookService, Plan, PlannedSource } from '../plan/model.ts';
import type { DrillCheck, DrillResult } from '../report/drill-report.ts';
import { plural } from '../report/format.ts';
import { isKilledForMemory } from '../restore/point/server-programs.ts';
import type { Journal } from '../run/journal.ts';
import { hidingSecrets } from './app-secrets.ts';
import { type DrillDeps, limitsOf, type RestoredData } from './context.ts';

/** Restored data, and the source that it is of. */
export interface Up {
  planned: PlannedSource;
  data: RestoredData;
}

/** The smoke test of one service. */
type Smoke = Pick<HookService, 'service' | 'containerId' | 'containerName' | 'dependsOn'> & { hook: Hook };

/** The drill of a whole stack in progress. */
interface Run {
  id: string;
  journal: Journal;
  ups: readonly Up[];
  /** gets what is not proven */
  unproven: string[];
  signal: AbortSignal;
  say(line: string): void;
}

/** The longest time of a smoke test, milliseconds. It may start the whole application. */
const LIMIT_MS = 10 * 60_000;

/**
 * Reads the variables of the application from stdin, so that no secret among them is in a configuration of the engine.
 */
const RUN_SCRIPT = 'eval "$(cat)"; exec "$@"';

/** Returns the smoke tests of a plan, each once. */
export function smokeTests({ sources, hooks = [] }: Pick<Plan, 'sources' | 'hooks'>): Smoke[] {
  const found = new Map<string, Smoke>();
  for (const { service, containerId, containerName, dependsOn, drillHealth } of [...sources, ...hooks]) {
    if (drillHealth && !found.has(containerId))
      found.set(containerId, {
        service,
        containerId,
        containerName,
        ...(dependsOn && { dependsOn }),
        hook: drillHealth,
      });
  }
  return [...found.values()];
}

/**
 * Runs the smoke tests of a stack whose data is restored. Each runs in a new container of its application's image, in
 * the network of the restored server, where the names of the database lead to that server, and with the restored
 * volumes at their usual paths. It reaches nothing in use.
 */
export async function runSmokeTests(deps: DrillDeps, tests: readonly Smoke[], run: Run): Promise<DrillResult> {
  const result: DrillResult = {
    ...{ source: 'stack', kind: 'stack', status: 'ok', place: '', steps: [], checks: [], notes: [] },
  };
  if (tests.length === 0) {
    result.status = 'unproven';
    run.unproven.push('no smoke test was run: no running service has the label lifeboat.drill.health');
  }
  for (const test of tests) {
    run.say(`  running lifeboat.drill.health of ${test.containerName}`);
    const begin = performance.now();
    const check = await runOne(deps, test, run);
    result.checks.push(check);
    if (check.result === 'skipped') run.unproven.push(`${check.name} of ${test.service}: ${check.detail}`);
    result.steps.push({ name: `health of ${test.service}`, durationMs: Math.round(performance.now() - begin) });
  }
  const has = (one: DrillCheck['result']) => result.checks.some((check) => check.result === one);
  if (has('failed')) result.status = 'failed';
  else if (has('skipped')) result.status = 'unproven';
  else if (tests.length > 0) result.summary = `${plural(tests.length, 'smoke test')} passed`;
  return result;
}

async function runOne(deps: DrillDeps, test: Smoke, run: Run): Promise<DrillCheck> {
  const name = { name: 'lifeboat.drill.health', of: test.service };
  const limit = AbortSignal.timeout(LIMIT_MS);
  let helper: Helper | undefined;
  try {
    helper = await start(deps, test, run);
    const { env, user } = await deps.engine.inspectContainer(test.containerId, { signal: run.signal });
    await execText(deps.engine, helper.id, {
      argv: ['sh', '-c', RUN_SCRIPT, 'sh', ...test.hook.argv],
      input: assignments(env),
      redact: hidingSecrets(env),
      ...userOf(test.hook.user ?? user),
      ...{ heartbeat: HEARTBEAT_S, signal: AbortSignal.any([run.signal, limit]) },
    });
    return { ...name, result: 'ok' };
  } catch (error) {
    run.signal.throwIfAborted();
    const short = await withoutMemory(deps, test, run, helper);
    if (short !== undefined) return { ...name, result: 'skipped', detail: short };
    const { message, cause } = errorInfo(error);
    const detail = limit.aborted
      ? 'it took longer than 10 minutes'
      : cause === undefined
        ? message
        : `${message}: ${cause}`;
    return { ...name, result: 'failed', detail };
  } finally {
    await helper?.remove();
  }
}

/** Says which container of a failed test had too little memory, which says nothing about the restored data. */
async function withoutMemory(
  { engine, agent }: DrillDeps,
  test: Smoke,
  { ups }: Run,
  helper: Helper | undefined,
): Promise<string | undefined> {
  if (!helper) return undefined;
  if (await isKilledForMemory(engine, helper.id))
    return 'the application needs more memory than LIFEBOAT_DRILL_MEMORY allows';
  const data = serverFor(test, ups)?.data;
  if (data?.kind !== 'server' || !(await isKilledForMemory(agent.engine, data.container))) return undefined;
  return 'the restored server needs more memory than its share of LIFEBOAT_DRILL_MEMORY';
}

function userOf(user: string): { user?: string } {
  return user === '' ? {} : { user };
}

/** Names that a shell accepts. */
const VARIABLE = /^[A-Za-z_]\w*$/;

function assignments(env: Readonly<Record<string, string>>): string {
  return Object.entries(env)
    .filter(([name]) => VARIABLE.test(name))
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`)
    .join('');
}

async function start({ engine, agent, project, log, settings }: DrillDeps, test: Smoke, run: Run): Promise<Helper> {
  const { id, journal, ups, signal } = run;
  const application = await engine.inspectContainer(test.containerId, { signal });
  const server = serverFor(test, ups);
  if (server) await nameServer({ engine, agent }, server, signal);
  const mounts = application.mounts.flatMap(({ name, source, destination }) => {
    const place = name ?? source;
    const up = ups.find(({ planned: p }) => p.kind === 'volume' && (p.mount.name ?? p.mount.source) === place);
    return up?.data.kind === 'volume'
      ? [{ mount: up.data.volume, target: destination, access: 'read-write' as const }]
      : [];
  });
  return startHelper(
    { engine, log, signal, recordBefore: async (name) => journal.record({ type: 'helper', name }) },
    {
      ...kindSpec(HELPER_KINDS.application, { volume: mounts }),
      ...{ project, agent: agent.id, runId: id, image: application.imageId, ...limitsOf({ settings }) },
      ...(server?.data.kind === 'server' ? { networkMode: `container:${server.data.container}` } : {}),
    },
  );
}

/** Returns the restored server that an application uses: that of a service it depends on, or else the only one. */
function serverFor({ service, dependsOn = [] }: Smoke, ups: readonly Up[]): Up | undefined {
  const servers = ups.filter(({ data }) => data.kind === 'server');
  const used = servers.filter(({ planned }) => dependsOn.includes(planned.service) || planned.service === service);
  if (used.length > 1)
    throw new LifeboatError(
      'HELPER_FAILED',
      `${service} depends on ${used.length} database servers, and can reach only one`,
    );
  return used[0] ?? (servers.length === 1 ? servers[0] : undefined);
}

/** Lets the names of a database lead to its restored server. Containers of one network share this file. */
async function nameServer(
  { engine, agent }: Pick<DrillDeps, 'engine' | 'agent'>,
  { planned, data }: Up,
  signal: AbortSignal,
): Promise<void> {
  if (data.kind !== 'server') return;
  const { networks, name } = await engine.inspectContainer(planned.containerId, { signal });
  const names = new Set([planned.service, name, ...Object.values(networks).flatMap(({ aliases }) => aliases)]);
  const line = `127.0.0.1 ${[...names].filter((one) => /^[\w.-]+$/.test(one)).join(' ')}\n`;
  const argv = ['sh', '-c', 'cat >> /etc/hosts'];
  await execText(agent.engine, data.container, { argv, input: line, signal });
}
