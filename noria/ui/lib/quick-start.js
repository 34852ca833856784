// @ts-check
/** Lines that make the first thing, with the right address and token already in them. Pure. */

/** @typedef {{url: string, token?: string, needsToken: boolean}} At */

const ASK = '<your token>';

/** The ways to begin: a name, what it is for, and the lines. @param {At} at @returns {{id: string, short: string, icon: string, title: string, text: string, code: string}[]} */
export function ways({ url, token = '', needsToken }) {
  const secret = token || (needsToken ? ASK : '');
  const mlflow = `export MLFLOW_TRACKING_URI=${url}\n${secret ? `export MLFLOW_TRACKING_TOKEN=${secret}\n` : ''}`;
  const noria = `export NORIA_URL=${url}\n${secret ? `export NORIA_TOKEN=${secret}\n` : ''}`;
  return [
    { id: 'mlflow', short: 'A script', icon: 'activity', title: 'Track a script you have', text: 'The unmodified MLflow client writes here.', code: `pip install mlflow-skinny\n${mlflow}python train.py` },
    { id: 'sdk', short: 'Noria', icon: 'terminal', title: 'Track with Noria', text: 'Code, packages, console and hardware come along; nothing is lost offline.', code: `${noria}python - <<'PY'\nimport noria\n\nwith noria.init("first") as run:\n    for step in range(100):\n        run.log({"loss": 1 / (1 + step)})\nPY` },
    { id: 'data', short: 'Data', icon: 'database', title: 'Keep a dataset', text: 'Every version, by content; only what changed is stored.', code: `${noria}noria data commit flights data/ -m "first"` },
    { id: 'pipeline', short: 'Pipeline', icon: 'workflow', title: 'Run a pipeline', text: 'Steps in their own processes, resumed after a crash.', code: `${noria}noria pipeline run pipeline.py` },
    { id: 'deploy', short: 'Model', icon: 'radio-tower', title: 'Answer with a model', text: 'A registered version behind an address.', code: `${noria}noria endpoint deploy flights@1 --name flights` },
    { id: 'demo', short: 'Demo', icon: 'iteration-cw', title: 'See the whole loop', text: 'Real data, drift, retraining, canary: about four minutes, on a home of its own.', code: 'noria demo' },
  ];
}
