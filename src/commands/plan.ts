import { statfs } from 'node:fs/promises';
import { toLifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { heldProblems, heldServices } from '../daemon/held-services.ts';
import type { Plan, Problem } from '../plan/model.ts';
import { encryptionText } from '../plan/seal-keys.ts';
import type { Probed } from '../report/terminal/listing.ts';
import { SPOOL } from '../run/mounts.ts';
import { type Call, print } from './call.ts';

export async function showPlan(call: Call): Promise<number> {
  const { app, io } = call;
  if (call.options.fromLabels !== undefined) return translate(call);
  const { renderPlan } = await import('../report/terminal/listing.ts');
  const plan = await app.plan();
  const probes = await completePlan(call, plan);
  const nextRun = app.nextRun(plan);
  const free = await statfs(app.settings.destination).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined,
  );
  const sources = plan.sources.map(({ name, kind, service, containerName, schedule, keep }) => {
    return { name, kind, service, container: containerName, schedule, keep, ...probes.get(name) };
  });
  const destination = app.destination.name;
  const copies = app.settings.copies.map(({ name, keep }) => ({ name, ...(keep ? { keep } : {}) }));
  const { project, problems, notes = [] } = plan;
  print(call, 'plan', { project, sources, problems, notes, nextRun: nextRun.toISOString(), destination, copies }, () =>
    renderPlan({
      plan,
      probes,
      nextRun,
      now: new Date(),
      zone: app.settings.timeZone,
      destination,
      copies,
      encryption: encryptionText(app.settings.keys),
      ...(free === undefined ? {} : { free }),
      paint: io.paint,
    }),
  );
  if (plan.sources.length === 0 && !plan.awaited) return EXIT.nothing;
  return problems.some(({ severity }) => severity === 'error') ? EXIT.partial : EXIT.done;
}

/** `lifeboat plan --from-labels`: shows what the labels of another program mean in labels and settings of Lifeboat. */
async function translate(call: Call): Promise<number> {
  const { app, io, options } = call;
  const { listFacts } = await import('../docker/discover.ts');
  const { renderTranslation } = await import('../setup/foreign.ts');
  const containers = (await listFacts(app.engine, { signal: io.signal })).filter(
    ({ project }) => project === app.project,
  );
  const translation =
    options.fromLabels === 'offen'
      ? (await import('../setup/offen.ts')).translateOffen(containers)
      : (await import('../setup/stack-back.ts')).translateStackBack(containers);
  const { labels, settings, secrets, notes } = translation;
  print(call, 'plan --from-labels', { labels: Object.fromEntries(labels), settings, secrets, notes }, () =>
    renderTranslation(translation, app.self.facts.service || undefined),
  );
  return labels.size > 0 ? EXIT.done : EXIT.nothing;
}

/** Adds to a plan what its sources, the destination and the copies show, and what the next run would fail with. */
async function completePlan({ app, io }: Call, plan: Plan): Promise<Map<string, Probed>> {
  const { foresee } = await import('../check/foresee.ts');
  const { probes, problems, notes, empty } = await app.probe(plan);
  const { bucketProblems } = await import('./bucket.ts');
  const held = heldProblems(await heldServices(app.journals, await app.runsUnderWay()));
  const own = await app.own.look().catch((error: unknown) => ({ error: toLifeboatError(error) }));
  const next = await foresee({
    ...{ plan, state: app.state, own, empty, now: app.now(), spool: SPOOL },
    destination: { setting: 'LIFEBOAT_DESTINATION', location: app.settings.destination },
    copies: app.settings.copies.flatMap(({ location, name }) => {
      const place = app.copies.find((copy) => copy.name === name);
      return place ? [{ setting: 'LIFEBOAT_COPY', location, place }] : [];
    }),
  });
  // A copy that fails makes the run partly failed: the error stands for the warning of the plan.
  const known = plan.problems
    .filter(({ message }) => !next.problems.some((one) => one.message === message))
    .filter((problem) => !isAwaited(plan, problem));
  plan.problems = [...known, ...problems, ...held, ...(await bucketProblems(app.settings, io.env)), ...next.problems];
  const awaited = (plan.awaited ?? []).map((subject) => ({
    subject,
    message: 'is not ready yet: it is about to start',
  }));
  plan.notes = [...(plan.notes ?? []), ...awaited, ...notes, ...next.notes];
  return probes;
}

/** True for a container that does not run and is about to: a run waits for it. */
function isAwaited({ awaited = [] }: Plan, { code, message }: Problem): boolean {
  return code === 'CONTAINER_STOPPED' && awaited.some((name) => message.startsWith(`container ${name} `));
}
