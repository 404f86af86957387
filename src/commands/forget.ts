import { errorInfo } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { findUnreadable, type UnreadableSnapshot } from '../prune/forget.ts';
import { shellWord } from '../report/restore-command.ts';
import { renderError } from '../report/text.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import { type Call, print } from './call.ts';
import { consent } from './consent.ts';

/** Where copies have the manifest of an unreadable snapshot. */
interface InCopies {
  /** names of the copies that have it, readable */
  readable: string[];
  /** names of the copies that cannot be used now */
  unknown: string[];
}

/** `lifeboat forget SNAPSHOT --unreadable`: gives up a snapshot whose manifest nobody can read any more. */
export async function forget(call: Call): Promise<number> {
  const { app, options, operands } = call;
  const repository = await app.repository({ create: false });
  const found = await findUnreadable(repository, operands[0] as string);
  const copies = await lookInCopies(call, repository, found.id);
  const view = { snapshot: found.id, error: errorInfo(found.error), pinned: found.pinned ?? null, copies };
  if (options.dryRun === true) {
    print(call, 'forget', { ...view, forgotten: false }, () => preview(found, copies));
    return EXIT.done;
  }
  const { confirm, say } = consent(call);
  say(preview(found, copies));
  await confirm(found.id);
  await app.forgetUnreadable(found.id);
  print(call, 'forget', { ...view, forgotten: true }, () => `Gave up ${found.id}. ${AFTERWARDS}`);
  return EXIT.done;
}

const AFTERWARDS =
  'Prunes delete the objects that no other snapshot needs: the first one lists them, and one that runs at least a day later deletes them.';

function preview({ id, error, pinned }: UnreadableSnapshot, { readable, unknown }: InCopies): string {
  const { hint: _, ...why } = errorInfo(error);
  const date = parseSnapshotId(id)?.date.toISOString() ?? 'an unknown time';
  const [copy] = readable;
  return [
    `Snapshot ${id}, begun at ${date}, has a manifest that cannot be used:`,
    renderError(why),
    ...(pinned === undefined ? [] : [`It is pinned (${pinned}). The pin is removed too.`]),
    ...(copy === undefined
      ? ['No copy is known to have its manifest.']
      : [`Do not give it up: ${copy} has its manifest. \`lifeboat copy --from ${shellWord(copy)}\` brings it back.`]),
    ...(unknown.length > 0 ? [`These copies cannot be asked now: ${unknown.join(', ')}`] : []),
    'Giving it up records its place in the chain, and deletes its manifest. Nobody can restore it afterwards.',
    'Other snapshots, and the files that they share with it, stay.',
  ].join('\n');
}

async function lookInCopies(
  { app }: Call,
  main: Awaited<ReturnType<Call['app']['repository']>>,
  id: string,
): Promise<InCopies> {
  const readable: string[] = [];
  const unknown: string[] = [];
  for (const { name, open } of app.copies) {
    try {
      const copy = await open(main, { create: false });
      const { snapshots } = await copy.snapshots();
      if (snapshots.some(({ manifest }) => manifest.id === id)) readable.push(name);
    } catch {
      unknown.push(name);
    }
  }
  return { readable, unknown };
}
