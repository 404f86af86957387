import { statfs } from 'node:fs/promises';
import { errorInfo } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { heldProblems, heldServices } from '../daemon/held-services.ts';
import { encryptionText } from '../plan/seal-keys.ts';
import { type Call, print } from './call.ts';

export async function showPlan(call: Call): Promise<number> {
  const { app, io } = call;
  const { probe } = await import('../check/probe.ts');
  const { renderPlan } = await import('../report/listing.ts');
  const plan = await app.plan();
  const { probes, problems } = await probe(plan, {
    project: app.project,
    agentMounts: app.self.facts.mounts,
    treeStore: app.treeStore,
    state: app.state,
    openTools: (source, context) => app.openTools(source, { ...context, recordHelper: () => undefined }),
  });
  const { bucketProblems } = await import('./bucket.ts');
  const held = heldProblems(await heldServices(app.journals, await app.runsUnderWay()));
  plan.problems.push(...problems, ...held, ...(await bucketProblems(app.settings, io.env)));
  const { error } = await app.own.look();
  // The plan already lists a wrong mount as a problem.
  if (error && !plan.problems.some(({ code }) => code === error.code)) {
    plan.problems.unshift({ severity: 'error', subject: 'LIFEBOAT_DESTINATION', ...errorInfo(error) });
  }
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
  print(
    call,
    { project: plan.project, sources, problems: plan.problems, nextRun: nextRun.toISOString(), destination, copies },
    () =>
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
  if (plan.sources.length === 0) return EXIT.nothing;
  return plan.problems.some(({ severity }) => severity === 'error') ? EXIT.partial : EXIT.done;
}
