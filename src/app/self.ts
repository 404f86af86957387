import { readdir } from 'node:fs/promises';
import { unlessAborted } from '../base/abort.ts';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import { listForPlan } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import { withMountDetails } from '../docker/mount-details.ts';
import { awaitedContainers } from '../plan/awaited.ts';
import { buildPlan } from '../plan/job.ts';
import type { ContainerFacts, Mount, Plan } from '../plan/model.ts';
import { isInScope } from '../plan/services.ts';
import type { Settings } from '../plan/settings.ts';
import { lastNameOf } from '../run/history.ts';
import { CONFIG, SPOOL } from '../run/mounts.ts';
import type { State } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { staleFiles } from './config-files.ts';
import { destinationError } from './destinations.ts';
import { copiesIn } from './into-project.ts';
import type { Self } from './own-container.ts';

/** The agent's own project and mounts, and the plan made from them. */

/**
 * Returns the Compose project of the agent. Throws AGENT_NOT_IN_CONTAINER if neither Compose nor the settings name one.
 */
export function projectOf(self: Self, settings: Settings): string {
  const project = knownProject(self, settings);
  if (project) return project;
  throw new LifeboatError('AGENT_NOT_IN_CONTAINER', 'Compose did not start Lifeboat, so its project is not known', {
    hint: 'Start it with docker compose, or set LIFEBOAT_PROJECT.',
  });
}

/** Returns the project of the agent, under which its snapshots are stored, or an empty text if it is not known. */
export function knownProject({ facts }: Self, settings: Pick<Settings, 'project'>): string {
  // In a stack, each node has an agent, and the settings give each a project of its own.
  return 'com.docker.compose.project' in facts.labels ? facts.project : settings.project || facts.project;
}

/** Returns the mount that helpers share with the agent. Throws AGENT_NOT_IN_CONTAINER if there is none. */
export function spoolMountOf(self: Self): Mount {
  const mount = self.facts.mounts.find(({ destination }) => destination === SPOOL);
  if (mount) return mount;
  throw new LifeboatError('AGENT_NOT_IN_CONTAINER', 'the Lifeboat container has no volume at /spool', {
    hint: 'Use the image unchanged: it declares the volume.',
  });
}

/** The inputs of an agent's plan, apart from its containers. */
interface PlanContext {
  self: Self;
  project: string;
  settings: Settings;
  state: Pick<State, 'results'>;
  /** returns the manifests at the destination, newest first; called only for a shared volume without a known name */
  recorded(): Promise<readonly Manifest[]>;
  /** the ids of containers that a run has stopped and will start again */
  held(): Promise<ReadonlySet<string>>;
}

/** The most time that the destination gets to list snapshots for a plan, milliseconds. */
const RECORDED_MS = 10_000;

/**
 * Lists the containers that exist now, and plans for them. A container that a run holds stopped counts as running,
 * because it ran before and will run again.
 *
 * @throws ENGINE_*
 */
export async function planNow(
  engine: Engine,
  { self, project, settings, state, recorded, held }: PlanContext,
): Promise<Plan> {
  const agentMounts = self.facts.mounts;
  // Before and after the listing, because a run may stop a container, or start it again, in between.
  const before = await held();
  const copies = await copiesIn();
  const { facts: listed, others } = await listForPlan(engine, (of) =>
    isInScope({ project: of }, { settings, project, copies }),
  );
  const stopped = new Set([...before, ...(await held())]);
  const facts = listed.map((one) => (stopped.has(one.id) ? { ...one, running: true } : one));
  const containers = await withMountDetails(engine, facts, asksForVolumes);
  const agentId = self.facts.id;
  const configFiles = await hasFiles(CONFIG);
  // Names that had a result stay the names of shared volumes.
  const known = Object.keys(await state.results().catch(() => ({})));
  const input = { containers, others, project, settings, agentMounts, agentId, configFiles, known, copies };
  let plan = buildPlan(input);
  const unknown = namesOfShared(plan).filter((names) => !names.some((name) => known.includes(name)));
  if (unknown.length > 0) {
    // The spool is new, so it knows no names. A volume that changed its name would begin a second history.
    const manifests = await unlessAborted(recorded(), AbortSignal.timeout(RECORDED_MS)).catch(() => []);
    const last = unknown.flatMap((names) => lastNameOf(manifests, names) ?? []);
    if (last.length > 0) plan = buildPlan({ ...input, known: [...known, ...last] });
  }
  const awaited = awaitedContainers(input, self.facts.life, new Date());
  if (awaited.length > 0) plan.awaited = awaited;
  plan.problems.push(...(await staleFiles(agentMounts, CONFIG)));
  const mistaken = destinationError(settings.destination, agentMounts, true);
  if (mistaken) plan.problems.unshift({ severity: 'error', subject: 'LIFEBOAT_DESTINATION', ...errorInfo(mistaken) });
  for (const { location } of settings.copies) {
    const wrong = destinationError(location, agentMounts, true);
    // A copy that fails does not fail the run, which reports it.
    if (wrong) plan.problems.push({ severity: 'warning', subject: 'LIFEBOAT_COPY', ...errorInfo(wrong) });
  }
  return plan;
}

/** Returns the names that each shared volume could have. */
function namesOfShared({ shared = {} }: Plan): string[][] {
  const all = Map.groupBy(Object.entries(shared), ([, storedAs]) => storedAs);
  return [...all].map(([storedAs, others]) => [storedAs, ...others.map(([name]) => name)]);
}

function asksForVolumes({ labels }: ContainerFacts): boolean {
  return 'lifeboat.volumes' in labels;
}

async function hasFiles(directory: string): Promise<boolean> {
  return readdir(directory).then(
    (names) => names.length > 0,
    () => false,
  );
}
