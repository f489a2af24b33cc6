from conmim_lightning.data.samplers.lane import LaneSampler, lane_and_position


def test_the_sampler_resumes_within_its_epoch():
    sampler = LaneSampler(40, lanes=2, batch_size=5, rank=1, num_devices=3)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.resume(2, 15)
    assert list(sampler) == whole[15:]
    assert {lane_and_position(key.index)[0] for key in whole[:5]} == {1}
    assert {lane_and_position(key.index)[0] for key in whole[5:10]} == {4}
    assert [lane_and_position(key.index)[1] for key in whole[10:15]] == [5, 6, 7, 8, 9]
