import type { ContainerFacts, ContainerLife } from './model.ts';
import { asks, groupByService, isInScope, isOneOff, type PlanInput } from './services.ts';

/**
 * After a boot, the engine starts the containers one after the other. A run waits no longer than this for them,
 * milliseconds.
 */
const BOOT_MS = 180_000;
/** Longest time between the first and the last container of one `docker compose up` or `start`, milliseconds. */
const COMPOSE_MS = 30_000;
/** A container that ended this recently may be in the middle of a `docker compose restart`, milliseconds. */
const RESTART_MS = 15_000;
/** Containers that end within this time of each other ended with the host or with their project, milliseconds. */
const TOGETHER_MS = 120_000;

/**
 * Returns the labelled containers that do not run and are about to start, so that a run waits for them:
 *
 * - after a reboot, those that ended together with the agent and that the engine restarts by their restart policy,
 * - those that Compose is creating or starting,
 * - those that ended a moment ago.
 *
 * A container that a user stopped is not among them: it ended at another time than the agent.
 *
 * @returns names, sorted
 */
export function awaitedContainers(input: PlanInput, agent: ContainerLife | undefined, now: Date): string[] {
  if (!agent) return [];
  const inScope = input.containers.filter((container) => !isOneOff(container) && isInScope(container, input));
  const asked = groupByService(inScope, input.project).flatMap(({ containers }) => containers.filter(asks));
  return asked.flatMap(({ container }) => (isAwaited(container, agent, now.getTime()) ? [container.name] : [])).sort();
}

function isAwaited({ running, life }: ContainerFacts, agent: ContainerLife, now: number): boolean {
  if (running || !life) return false;
  const age = (iso: string) => now - Date.parse(iso);
  if (life.state === 'created') return age(life.createdAt) < COMPOSE_MS || age(agent.startedAt) < COMPOSE_MS;
  if (life.state !== 'exited') return false;
  if (age(life.finishedAt) < RESTART_MS) return true;
  const together = Math.abs(Date.parse(life.finishedAt) - Date.parse(agent.finishedAt)) < TOGETHER_MS;
  const isRestarted = /^(always|unless-stopped|on-failure)$/.test(life.restartPolicy);
  return together && age(agent.startedAt) < (isRestarted ? BOOT_MS : COMPOSE_MS);
}
