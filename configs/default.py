"""Every knob, with its default: the only place where a default exists.

Other configs start from here and override a few lines; the command line overrides any of them:
`mig-jax train --config=configs/quickstart.py --config.rollout.group_size=16`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # of weights, order of the data and sampling
    c.steps = 100  # rollouts to learn from (train), or batches of demonstrations (sft)

    c.model = m = ConfigDict()
    m.path = ""  # folder in Hugging Face format, .gguf file, workdir of a run, or hub name; "": random weights
    m.tokenizer = ""  # the same; "" is that of model.path; "characters" is built from nothing
    m.compute_dtype = "float32"  # of activations: float32 or bfloat16; norms, softmax, log-probs are float32 always
    m.param_dtype = "float32"  # of weights: float32 keeps master weights beside bfloat16 activations
    m.save_dtype = ""  # that the trained model is written in: float32, bfloat16 or float16; "": as the weights are held
    m.attention = ""  # kernel of training and prefill: xla, splash (TPU), cudnn (GPU, bfloat16); "": that of the chip
    m.remat = "none"  # what the backward pass computes again to save memory: none, layer, or matmuls (models/remat.py)
    m.init = ConfigDict()  # the shape, when model.path is ""
    m.init.layers = 4
    m.init.width = 128
    m.init.heads = 4
    m.init.kv_heads = 2
    m.init.head_size = 32
    m.init.mlp_width = 384
    m.init.rope_theta = 10_000.0
    m.init.norm_eps = 1e-6
    m.init.tied_head = True
    m.init.qkv_bias = True
    m.init.qk_norm = False
    m.init.rope_sections = ()  # frequencies for time, height and width, where there is a vision tower: (4, 6, 6)
    m.init.vision = v = ConfigDict()  # the shape of a vision tower like Qwen2.5-VL's
    v.layers = 0  # 0: no tower, text alone
    v.width = 64
    v.heads = 4
    v.mlp_width = 128
    v.patch_size = 14  # pixels
    v.merge_size = 2  # patches a side that become one token
    v.window_size = 112  # pixels a side within which most layers attend
    v.full_layers = (1,)  # those that attend to the whole image

    m.vision = i = ConfigDict()  # of models that see
    i.freeze = True  # the tower stays as it is; its features are then computed once a rollout
    i.max_patches = 1024  # of all images of a prompt, windows filled up; prompts with more are left out, and counted
    i.min_pixels = 56 * 56  # smaller images are scaled up
    i.max_pixels = 448 * 448  # larger images are scaled down

    m.lora = a = ConfigDict()  # adapters; the rest of the decoder stays as it is, and is the reference of loss.kl_coef
    a.rank = 0  # 0: none, all weights are trained
    a.alpha = 16.0  # they are scaled by alpha / rank
    a.modules = ("query", "key", "value", "out", "gate", "up", "down")
    a.save = "merged"  # merged: an ordinary model; adapter: PEFT's folder

    c.data = d = ConfigDict()
    d.train = "chain:terms=7"  # sources: gsm8k, jsonl:FILE, reasoning_gym:TASK, "3 gsm8k + 1 math" (data/sources.py)
    d.eval = ""  # the same names; "" is that of data.train, whose test split or held-out questions are taken
    d.train_size = 8192  # problems to generate; other sources are as long as they are
    d.eval_size = 256
    d.eval_seed = 0  # of the held-out problems, so that runs with other seeds can be compared
    d.dir = "~/mig_jax_data"  # of benchmarks, a folder each: the published files, and what is made of them
    d.variants = ""  # a file of further spellings of the answers, made by `mig-jax variants`
    d.read_ahead = 2  # batches whose prompts and images are made ready while the accelerator works
    d.columns = n = ConfigDict()  # where rows of files have what: a column, "{a} {b}" of several, or "=text" for all
    n.id = "id"
    n.question = "question"
    n.answer = "answer"
    n.kind = "kind"  # number, expression, choice, yes_no, text, set, …; expression where there is none
    n.choices = "choices"
    n.steps = "steps"
    n.images = "images"
    n.level = "level"
    n.subject = "subject"
    n.source = "source"
    d.system_prompt = True  # put the instructions for the format before the question
    d.max_prompt_tokens = 256  # problems with longer prompts are left out, and counted
    d.max_answer_tokens = 16  # problems with longer reference answers are left out, and counted

    c.rollout = r = ConfigDict()
    r.questions = 32  # prompts a step
    r.group_size = 8  # samples a prompt
    r.max_new_tokens = 256
    r.temperature = 1.0
    r.gather_params = True  # whole over mesh.fsdp while sampling and scoring, instead of sent again for every token
    r.kv_cache_chunks = (
        1  # the KV cache grows in so many parts, doubling: short completions take less; a compile for each
    )

    c.reward = w = ConfigDict()
    w.credit = "watermark"  # watermark | final | delta_sum | position_weighted | segment_progress
    w.credit_level = (
        "trajectory"  # trajectory: one advantage for all reasoning tokens; step: the gain-to-go of each step
    )
    w.max_steps = 16  # K, steps that are probed
    w.max_variants = 4  # A, spellings of the answer that are probed
    w.accuracy = 1.0  # weight of a right answer in the outcome reward
    w.format = 1.0  # weight of a well-formed response in the outcome reward
    w.scale = "group_std"  # what centered rewards are divided by: group_std, or none
    w.outcome_eps = 1e-6  # added to the standard deviation of the outcome reward
    w.process_eps = 0.01  # nats, to that of the process reward, which is never exactly equal in a group

    c.loss = s = ConfigDict()
    s.alpha = 1.0  # process; GRPO is alpha = gamma = 0
    s.beta = 1.0  # outcome
    s.gamma = 0.1  # imitation of right and well-formed responses
    s.kl_coef = 0.0  # KL to the policy at the start; 0 keeps no second copy of it
    s.kl_reference_on_host = (
        False  # that copy waits in the hosts' memory, and is on the devices for its log-probs alone
    )
    s.clip_low = 0.2
    s.clip_high = 0.28
    s.aggregate = "responses"  # responses: mean of the responses' means; tokens: mean over all tokens

    c.optimizer = o = ConfigDict()
    o.peak_lr = 1e-6
    o.warmup_steps = 0
    o.decay = "constant"  # constant | cosine (to 0 over all updates)
    o.weight_decay = 0.0
    o.clip_norm = 1.0
    o.b1 = 0.9
    o.b2 = 0.99
    o.state_dtype = ""  # that Adam's moments are held in: float32 or bfloat16; "": as the weights are
    o.updates_per_rollout = 1  # more than one is where clipping begins to matter
    o.microbatches = 1  # parts that the rows of an update are cut into; the update is the same
    o.logprob_chunk = 16  # tokens of each row whose logits are alive at once
    o.max_skipped = 5  # updates in a row, skipped because loss or gradient was not finite, that end the run

    c.mesh = ConfigDict()  # devices = data × fsdp × tensor
    c.mesh.data = -1  # −1: all devices that the others leave
    c.mesh.fsdp = 1
    c.mesh.tensor = 1

    c.sft = f = ConfigDict()
    f.batch_size = 128  # demonstrations a step
    f.steps = 0  # train: so many steps on demonstrations come first, in workdir/warm_up
    f.peak_lr = 1e-5  # of those; behind optimizer.warmup_steps it falls to 0
    f.data = ""  # train: demonstrations for those; "" is data.train
    f.data_size = 0  # of those, where they are generated; 0 is data.train_size

    c.verifier = ConfigDict()
    c.verifier.workers = 2  # processes that check answers
    c.verifier.deadline_s = 5.0  # wall clock for one answer; then it counts as timed out, not as wrong

    c.eval = e = ConfigDict()
    e.every = 0  # steps between evaluations; 0 evaluates at the start and at the end
    e.samples = 1  # for each held-out problem
    e.benchmarks = ""  # eval: sources with commas between them; "" is data.eval
    e.problems = 0  # of each source, drawn with data.eval_seed; 0: all
    e.scored = 16  # eval: responses of each source whose steps are scored, for the page; 0: none
    e.batch_size = 256  # rows that are sampled together

    c.checkpoint = k = ConfigDict()
    k.every = 50  # steps
    k.keep = 2  # the newest
    k.keep_best = 0  # and so many with the highest eval/sampled, of those whose step was evaluated

    c.log = g = ConfigDict()
    g.every = 1  # steps between rows of metrics
    g.transcripts_every = 20  # steps between files of transcripts
    g.transcripts = 16  # responses in such a file
    return c.lock()  # from here on a misspelt key is an error
