import { createLetters, type Letters } from '../daemon/letter.ts';
import { createDispatcher } from '../report/dispatch.ts';
import type { Repository } from '../store/repository/repository.ts';
import { type Alarms, createAlarms } from '../targets/alarms.ts';
import { recallMeasured } from '../targets/measured.ts';
import { createTargetWatch, type TargetWatch } from '../targets/watch.ts';
import type { Environment } from './environment.ts';

/** Opens the alarms of the daemon. */
export function openAlarms({ project, state, notifiers, log, now }: Environment): Alarms {
  const dispatcher = createDispatcher(notifiers, { log });
  return createAlarms({ project, directory: state.directory, dispatcher, log, now });
}

/** Creates the watch that compares the targets of the sources with what is measured. */
export function watchTargets({ state, own, notifiers, log, now }: Environment, alarms: Alarms): TargetWatch {
  const dispatcher = createDispatcher(notifiers, { log });
  const look = () => lookAt(own);
  return createTargetWatch({
    ...{ state, alarms, log, now },
    emit: (event) => dispatcher.emit(event),
    recall: async () => {
      const repository = await look();
      if (repository) await recallMeasured(state.directory, repository);
    },
    async manifests() {
      const list = await (await look())?.snapshots();
      return (list?.snapshots ?? []).map(({ manifest }) => manifest);
    },
  });
}

/** Creates the watch that sends letters; none if no schedule is set. */
export function createLetterWatch(environment: Environment): Letters[] {
  const { project, settings, state, own, notifiers, log, now } = environment;
  const { letterSchedule: schedule } = settings.messages;
  if (schedule === undefined) return [];
  const dispatcher = createDispatcher(notifiers, { log });
  const letters = createLetters({
    ...{ project, schedule, zone: settings.timeZone, state, log, now },
    copies: settings.copies.map(({ name }) => name),
    look: () => lookAt(own),
    nextRun: environment.nextRun,
    emit: (event) => dispatcher.emit(event),
  });
  return [letters];
}

async function lookAt(own: Environment['own']): Promise<Repository | undefined> {
  const { repository, error } = await own.look();
  if (error) throw error;
  return repository;
}
