import { EXIT } from '../base/exit.ts';
import { renderSnapshots, type SnapshotRow } from '../report/terminal/listing.ts';
import { heldAt, type Manifest } from '../store/objects/manifest.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { findOtherProjects, otherProjectsText } from '../store/repository/other-projects.ts';
import { readPins } from '../store/repository/pins.ts';
import { missingDatabases } from '../store/repository/stored-databases.ts';
import { type Call, print } from './call.ts';

/** With fewer snapshots than this, the command also looks for other projects in the same place. */
const FEW = 5;

export async function listSnapshots(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { snapshots, damaged } = await repository.snapshots(call.io.signal);
  const pins = await readPins(repository);
  const rows = snapshots.map(({ manifest, unsigned }) => {
    const pinned = pins.get(manifest.id)?.reason;
    const row = { ...toRow(manifest), ...(unsigned ? { unsigned } : {}) };
    return { ...row, ...(pinned === undefined ? {} : { pinned }) };
  });
  sortIn(rows);
  // A renamed project begins a new history.
  const others = rows.length < FEW ? await findOtherProjects(repository, call.io.signal) : [];
  const view = { snapshots: rows, damaged: damaged.map(({ id, error }) => ({ id, code: error.code })), others };
  print(call, 'snapshots', view, () => {
    const also = otherProjectsText(repository.destination.name, others);
    const bad = groupDamaged(damaged).map(({ id, error }) => `! ${id}: ${error.message} (${error.code})`);
    return [renderSnapshots(rows, new Date()), ...bad, ...(also ? [`${also}.`] : [])].join('\n');
  });
  return rows.length > 0 ? EXIT.done : EXIT.nothing;
}

/**
 * Sorts imports by the date of their data. All other snapshots keep the order of the chain, whatever their dates are.
 */
function sortIn(rows: SnapshotRow[]): void {
  const imports = rows.filter(({ imported }) => imported).sort((a, b) => (heldAt(a) < heldAt(b) ? 1 : -1));
  const others = rows.filter(({ imported }) => !imported);
  rows.splice(0, rows.length);
  for (const row of others) {
    while (imports[0] && heldAt(imports[0]) >= row.end) rows.push(imports.shift() as SnapshotRow);
    rows.push(row);
  }
  rows.push(...imports);
}

function toRow({ id, end, status, trigger, sources, imported }: Manifest): SnapshotRow {
  const each = Object.entries(sources).map(([name, entry]) => {
    const { status: own, bytes, newBytes } = entry;
    const missing = missingDatabases(entry).map(({ name: database }) => database);
    return { name, status: own, bytes, newBytes, ...(missing.length > 0 ? { missing } : {}) };
  });
  return { id, end, status, trigger, ...(imported ? { imported } : {}), sources: each };
}
