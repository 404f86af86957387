import { EXIT } from '../base/exit.ts';
import { FEW, snapshotsDocument } from '../overview/snapshot-list.ts';
import { renderSnapshots } from '../report/terminal/listing.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { findOtherProjects, otherProjectsText } from '../store/repository/other-projects.ts';
import { readPins } from '../store/repository/pins.ts';
import { type Call, print } from './call.ts';

export async function listSnapshots(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { snapshots, damaged } = await repository.snapshots(call.io.signal);
  const pins = await readPins(repository);
  // A renamed project begins a new history.
  const others = snapshots.length < FEW ? await findOtherProjects(repository, call.io.signal) : [];
  const manifests = snapshots.map(({ manifest }) => manifest);
  const unsigned = snapshots.flatMap((one) => (one.unsigned ? [one.manifest.id] : []));
  const view = snapshotsDocument({ manifests, unsigned, damaged, others }, pins);
  print(call, 'snapshots', view, () => {
    const also = otherProjectsText(repository.destination.name, others);
    const bad = groupDamaged(damaged).map(({ id, error }) => `! ${id}: ${error.message} (${error.code})`);
    return [renderSnapshots(view.snapshots, new Date()), ...bad, ...(also ? [`${also}.`] : [])].join('\n');
  });
  return manifests.length > 0 ? EXIT.done : EXIT.nothing;
}
